"""The command `deeper health`: whether a worker is ready, by the file that it writes."""

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
Exit codes: 0 ready; 1 not ready, or not there."""
)
@click.option("--file", "file", required=True, type=click.Path(path_type=Path), help="The worker's --health-file.")
@click.option("--max-age", default="30", type=duration, metavar="DURATION", show_default=True, help="30, 45s, 2m.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def health(*, file: Path, max_age: float, as_json: bool) -> int:
    """
    Tell whether a worker on this machine is ready.

    A worker with --health-file writes the file anew every two seconds while it
    is ready, and removes it when it stops; so its age tells. It is meant for
    checks such as a container's, and reads no settings.
    """
    allow_closed_output()
    age: float | None = None
    try:
        age = time.time() - file.stat().st_mtime
    except OSError as error:
        reason = f"{str(file)!r} cannot be read: {error.strerror}"
    else:
        told = f"{readable(max(round(age), 0))} ago" if age > -1 else f"{readable(round(-age))} ahead of the clock"
        reason = f"{str(file)!r} was last written {told}"
    # A worker that lives writes it anew: one from the future was left by one that ended before the clock was set back.
    is_ready = age is not None and abs(age) <= max_age
    if as_json:
        write_json({"ready": is_ready, "age_seconds": age, "reason": reason})
    else:
        click.echo(f"{'ready' if is_ready else 'not ready'}: {reason}")
    return ExitCode.DONE if is_ready else ExitCode.REFUSED
