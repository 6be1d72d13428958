"""The command `deeper cleanup`."""

from __future__ import annotations

import click

from deeper_tasks.cli.output import jobs, write_json
from deeper_tasks.cli.progress import progress_bar
from deeper_tasks.cli.target import Target, takes_target


@click.command(
    epilog="""\b
Examples:
  deeper cleanup --url sqlite:///tasks.db
  deeper cleanup --completed-days 1 --failed-days 90
  deeper cleanup --completed-days 0 --json"""
)
@click.option("--completed-days", type=float, metavar="DAYS", help="Keep completed jobs for so long.")
@click.option("--failed-days", type=float, metavar="DAYS", help="The same for failed, discarded and cancelled.")
@takes_target
def cleanup(target: Target, *, completed_days: float | None, failed_days: float | None) -> None:
    """
    Delete ended jobs that are older than the settings say, or than is said here.

    Workers do this by themselves, a little at a time.
    """
    with target.opened() as manager, progress_bar(target, "deleting old jobs"):
        count = manager.sync.cleanup_old_tasks(completed_days=completed_days, failed_days=failed_days)
    if target.as_json:
        write_json({"deleted": count})
    else:
        click.echo(f"{jobs(count)} deleted")
