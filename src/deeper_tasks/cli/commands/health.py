"""The command `deeper health`: reads from a worker's health file whether the worker is ready."""

from __future__ import annotations

import time
from pathlib import Path

import click

from deeper_tasks.cli.parameters import duration
from deeper_tasks.cli.process.streams import allow_closed_output
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.output import write_json
from deeper_tasks.domain.durations import readable


@click.command(
    epilog="""\b
Examples:
  deeper health --file /tmp/worker.json
  deeper health --file /tmp/worker.json --max-age 1m --json

\b
Exit codes: 0 ready; 1 not ready, or without a file."""
)
@click.option("--file", "file", required=True, type=click.Path(path_type=Path), help="The worker's --health-file.")
@click.option(
    "--max-age",
    default="30",
    type=duration,
    metavar="DURATION",
    show_default=True,
    help="The greatest age of the file: 30, 45s, 2m.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def health(*, file: Path, max_age: float, as_json: bool) -> int:
    """
    Report whether a worker on this machine is ready.

    A worker with --health-file rewrites the file every two seconds while it is
    ready, and removes it when it stops, so a fresh file shows a ready worker. Use
    the command as the health check of a container; it reads no settings.
    """
    allow_closed_output()
    age: float | None = None
    try:
        age = time.time() - file.stat().st_mtime
    except OSError as error:
        reason = f"{str(file)!r} cannot be read: {error.strerror}"
    else:
        when = f"{readable(max(round(age), 0))} ago" if age > -1 else f"{readable(round(-age))} ahead of the clock"
        reason = f"{str(file)!r} was last written {when}"
    # A file from the future was left by a worker that ended before the clock was set back: a live worker rewrites it.
    is_ready = age is not None and abs(age) <= max_age
    if as_json:
        write_json({"ready": is_ready, "age_seconds": age, "reason": reason})
    else:
        click.echo(f"{'ready' if is_ready else 'not ready'}: {reason}")
    return ExitCode.DONE if is_ready else ExitCode.REFUSED
