"""The command `deeper demo`."""

from __future__ import annotations

import asyncio
import shlex
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.formats import jobs
from deeper_tasks.cli.rendering.output import write_json
from deeper_tasks.config.working_folder import absolute
from deeper_tasks.domain.durations import readable

if TYPE_CHECKING:
    from deeper_tasks.cli.commands.demo.scenario import Display, Result

_APPLICATION = "deeper_tasks.cli.commands.demo.tasks:manager"


@click.command(
    epilog="""\b
Examples:
  deeper demo
  deeper demo --keep demo.db
  deeper demo --json | jq .states"""
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="Keep the database in this file, to try commands on it.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, at the end.")
def demo(*, keep: Path | None, as_json: bool) -> ExitCode:
    """
    Run jobs of every kind on a new SQLite file, and show them, in about ten seconds.

    A worker in this process sends mails. It runs a call that fails twice and then
    succeeds, a call that always fails and becomes a dead letter, a long report
    with progress, a computation in a process of its own, a job that is scheduled
    for later, and a job that recurs each second.
    """
    if keep is not None:
        keep = absolute(keep)
        _check_is_new(keep)
    with _database(keep) as path:
        url = f"sqlite:///{quote(str(path))}"
        result = _run(url, as_json=as_json)
    commands = _commands(url if keep is not None else "sqlite:///demo.db")
    if keep is None:
        commands = ["deeper demo --keep demo.db", *commands]
    if as_json:
        _write(result, url if keep is not None else None, commands)
    else:
        _print(result, commands)
    return ExitCode.DONE if result.is_good else ExitCode.REFUSED


def _check_is_new(path: Path) -> None:
    try:
        if path.exists():
            problem = "exists already"
        elif not path.parent.is_dir():
            problem = "is in a folder that does not exist"
        else:
            return
    except OSError as error:
        problem = f"cannot be examined: {error.strerror}"
    raise click.BadParameter(f"{str(path)!r} {problem}; name a new file", param_hint="'--keep'")


def _run(url: str, *, as_json: bool) -> Result:
    from deeper_tasks.cli.commands.demo.display import opened_display
    from deeper_tasks.cli.commands.demo.scenario import play

    async def run(display: Display) -> Result:
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        return await play(url, display)

    try:
        if as_json:
            return asyncio.run(run(lambda _: None))
        with opened_display() as display:
            return asyncio.run(run(display))
    except asyncio.CancelledError:
        raise click.Abort from None


@contextmanager
def _database(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="deeper-demo-")
    except OSError as error:
        raise click.ClickException(
            f"cannot make a temporary folder for the demo's database: {error.strerror}; "
            "set TMPDIR to a writable folder, or name a file: --keep demo.db"
        ) from error
    with made as folder:
        yield Path(folder) / "demo.db"


def _commands(url: str) -> list[str]:
    store = f"--url {shlex.quote(url)}"
    return [
        f"deeper list {store}",
        f"deeper list --dead {store}",
        f"deeper stats {store}",
        f"deeper schedules {store}",
        f"deeper doctor {store}",
        f"deeper retry --all-dead {store}",
        f"deeper worker {_APPLICATION} {store}",
    ]


def _write(result: Result, url: str | None, commands: list[str]) -> None:
    shown = [
        {"id": job.id, "task": job.task, "status": job.status, "attempts": job.attempts, "last_error": job.last_error}
        for job in result.jobs
    ]
    write_json(
        {
            "is_good": result.is_good,
            "seconds": round(result.seconds, 3),
            "states": result.states,
            "url": url,
            "commands": commands,
            "jobs": shown,
        }
    )


def _print(result: Result, commands: list[str]) -> None:
    states = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    click.echo(f"\n{jobs(len(result.jobs))} in {readable(result.seconds)}: {states}")
    if not result.is_good:
        click.echo("deeper: not all jobs ended as expected; is this machine very busy?", err=True)
    click.echo("try next:")
    for command in commands:
        click.echo(f"  {command}")
