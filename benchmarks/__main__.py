"""The command: `python -m benchmarks`."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from benchmarks import aged, aged_file
from benchmarks.aged_report import Rounds, to_rows
from benchmarks.aged_report import to_table as to_aged_table
from benchmarks.anatomy import anatomy
from benchmarks.figures import Competitor, Sample, make_rows
from benchmarks.plan import Plan, make_plan
from benchmarks.report import to_document, to_table
from benchmarks.site import FileSite, Site
from benchmarks.suite import Suite, sqlite_suite

if TYPE_CHECKING:
    from servers.server import Server

_WIDTH = 170
_YOUNG = 10_000
"""Ended jobs in the store that an aged one is compared with."""


_store = click.option(
    "--store",
    type=click.Choice(["sqlite", "postgres"]),
    help="The kind of store that is measured (sqlite, or postgres if a server is given).",
)
_postgres = click.option(
    "--postgres", "server_url", metavar="URL", help="The PostgreSQL server to use (one of the run's own)."
)
_store_dir = click.option(
    "--store-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder whose file system is measured (the system's folder for temporary files).",
)
_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of a table.")


@click.group(invoke_without_command=True)
@click.option("--jobs", type=click.IntRange(min=1), help="Jobs in each drain (50,000; with --quick 2,000).")
@_store
@_postgres
@click.option("--oban-python", metavar="PATH", help="A Python in which Oban is installed (this one, if it has it).")
@click.option(
    "--without",
    "left_out",
    multiple=True,
    type=click.Choice([who.value for who in Competitor if who is not Competitor.DEEPER_TASKS]),
    help="Leave a competitor out; may be given several times.",
)
@_store_dir
@click.option("--quick", "is_quick", is_flag=True, help="One small round: shows that all works, measures little.")
@_json
@click.pass_context
def main(
    context: click.Context,
    *,
    jobs: int | None,
    store: str | None,
    server_url: str | None,
    oban_python: str | None,
    left_out: tuple[str, ...],
    store_dir: Path | None,
    is_quick: bool,
    is_json: bool,
) -> None:
    r"""
    Measure this engine beside a raw loop and beside other libraries, in one run on one machine.

    The rounds are interleaved (raw, deeper_tasks, Huey, raw …), so that other work of the machine
    slows all alike. Targets are information: a missed one is no error.

    \b
    python -m benchmarks                      50,000 jobs, three rounds, on SQLite
    python -m benchmarks --store postgres     the same on a PostgreSQL that is started for it
    python -m benchmarks --postgres postgresql://me@db1/postgres
                                              on a server, in databases that are dropped again
    python -m benchmarks --store postgres --without procrastinate
                                              without the one that takes longest
    python -m benchmarks --quick              shows that all works
    python -m benchmarks aged --jobs 5000000  a store full of ended jobs beside a young one
    python -m benchmarks anatomy              where the microseconds of one job go
    """
    if context.invoked_subcommand is not None:
        return
    with ExitStack() as made:
        folder = made.enter_context(tempfile.TemporaryDirectory(prefix="deeper-benchmark-", dir=store_dir))
        plan = make_plan(Path(folder).resolve(), jobs=jobs, is_quick=is_quick)
        if _is_postgres(store, server_url):
            suite = _postgres_suite(_server(made, server_url, store_dir), oban_python)
        else:
            suite = sqlite_suite()
        suite = suite.without(left_out)
        samples = _measure(suite, plan)
    rows = make_rows(samples, suite.targets)
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(to_document(rows, plan, suite))).decode())
    else:
        _print_wide(to_table(rows, plan, suite))


def _measure(suite: Suite, plan: Plan) -> dict[Competitor, list[Sample]]:
    samples: defaultdict[Competitor, list[Sample]] = defaultdict(list)
    screen = Console(stderr=True)
    for number in range(1, plan.rounds + 1):
        for who, measure in suite.measures.items():
            screen.print(f"round {number} of {plan.rounds}: {who}", highlight=False)
            samples[who].append(measure(plan, number))
    return samples


def _is_postgres(store: str | None, server_url: str | None) -> bool:
    if store == "sqlite" and server_url is not None:
        raise click.UsageError("--postgres names a server, and --store sqlite needs none")
    return store == "postgres" or server_url is not None


def _postgres_suite(server: Server, oban_python: str | None) -> Suite:
    from benchmarks.postgres.suite import postgres_suite

    try:
        return postgres_suite(server, oban_python=oban_python)
    except LookupError as error:
        raise click.ClickException(str(error)) from error


def _server(made: ExitStack, server_url: str | None, store_dir: Path | None) -> Server:
    from benchmarks.postgres.server import running_server

    if server_url is None:
        Console(stderr=True).print("starting PostgreSQL", highlight=False)
    try:
        return made.enter_context(running_server(server_url, folder=store_dir))
    except (LookupError, PermissionError) as error:
        raise click.ClickException(str(error)) from error


def _print_wide(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH)).print(table)


@main.command(name="aged")
@click.option("--jobs", type=click.IntRange(min=1_000), default=1_000_000, show_default=True, help="Ended jobs.")
@click.option("--scheduled", type=click.IntRange(min=0), default=0, show_default=True, help="Jobs for later.")
@click.option("--drained", type=click.IntRange(min=1), default=10_000, show_default=True, help="Jobs in each drain.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@_store
@_postgres
@_store_dir
@_json
def measure_aged(
    *,
    jobs: int,
    scheduled: int,
    drained: int,
    rounds: int,
    store: str | None,
    server_url: str | None,
    store_dir: Path | None,
    is_json: bool,
) -> None:
    r"""
    Measure a store full of ended jobs beside a young one: drain, statistics, lists, maintenance.

    The young one has ten thousand, so that its lists have full pages too.

    A million ended jobs take about half a gigabyte for the time of the run, on PostgreSQL one.

    \b
    python -m benchmarks aged --jobs 5000000
    python -m benchmarks aged --store postgres --jobs 10000000 --scheduled 1000000
    """
    taken: Rounds = []
    screen = Console(stderr=True)
    with ExitStack() as made:
        folder = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="deeper-benchmark-", dir=store_dir)))
        site, fill = _place(made, folder.resolve(), store, server_url, store_dir)
        old = made.enter_context(site.store("aged"))
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=screen) as progress:
            bar = progress.add_task("filling the store", total=jobs + scheduled)
            fill(old, jobs, scheduled=scheduled, on_progress=lambda done: progress.update(bar, completed=done))
        for number in range(1, rounds + 1):
            screen.print(f"round {number} of {rounds}", highlight=False)
            with site.store("young") as young:
                fill(young, _YOUNG)
                both = [
                    asyncio.run(aged.measure(url, folder=folder, jobs=drained, repetitions=9)) for url in (young, old)
                ]
            taken.append((both[0], both[1]))
    rows = to_rows(taken)
    if is_json:
        said = {"jobs": jobs, "scheduled": scheduled, "rounds": rounds, "rows": rows}
        click.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
    else:
        title = f"a store of {_YOUNG:,} ended jobs and one of {jobs:,} and {scheduled:,} for later, {rounds} rounds"
        _print_wide(to_aged_table(rows, title))


def _place(
    made: ExitStack, folder: Path, store: str | None, server_url: str | None, store_dir: Path | None
) -> tuple[Site, Callable[..., None]]:
    """Return where the stores are made, and what fills one."""
    if _is_postgres(store, server_url):
        from benchmarks.postgres.aged_tables import make_aged
        from benchmarks.postgres.site import DatabaseSite

        return DatabaseSite(_server(made, server_url, store_dir)), make_aged
    return FileSite(folder), aged_file.make_aged


@main.command(name="anatomy")
@click.option("--jobs", type=click.IntRange(min=5_000), default=100_000, show_default=True, help="In steps of 5,000.")
@_store_dir
@_json
def show_anatomy(jobs: int, store_dir: Path | None, *, is_json: bool) -> None:
    """Show where the microseconds of CPU of one job go: in the event loop, and in the store."""
    with tempfile.TemporaryDirectory(prefix="deeper-benchmark-", dir=store_dir) as folder:
        shares = anatomy(Path(folder).resolve(), jobs - jobs % 5_000)
    titled = dict(zip(("a worker as a whole", "the event loop", "the store"), shares, strict=True))
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"jobs": jobs, "microseconds": titled})).decode())
        return
    for title, share in titled.items():
        table = Table("µs", title, caption=f"{sum(share.values()):.1f} µs of CPU a job", min_width=60)
        for place, micros in share.items():
            table.add_row(f"{micros:.2f}", place)
        Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
