"""The command `deeper cleanup`."""

from __future__ import annotations

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.rendering.output import jobs, size, write_json
from deeper_tasks.cli.rendering.progress import progress_bar, spinner
from deeper_tasks.cli.target import Target, takes_target


@click.command(
    epilog="""\b
Examples:
  deeper cleanup --url sqlite:///tasks.db
  deeper cleanup --completed-days 1 --failed-days 90
  deeper cleanup --completed-days 0 --json
  deeper cleanup --compact"""
)
@click.option("--completed-days", type=float, metavar="DAYS", help="Keep completed jobs for so long.")
@click.option("--failed-days", type=float, metavar="DAYS", help="The same for failed, discarded and cancelled.")
@click.option("--compact", is_flag=True, help="Give the unused space back at once; meanwhile nothing is written.")
@takes_target
def cleanup(target: Target, *, completed_days: float | None, failed_days: float | None, compact: bool) -> None:
    """
    Delete ended jobs that are older than the settings say, or than is said here.

    Workers do this by themselves, a little at a time. --compact then rebuilds a
    store whose space does not all come back by itself: for some seconds a
    gigabyte enqueues and workers wait, and there must be as much free space again.
    """
    with target.opened() as manager:
        with progress_bar(target, "deleting old jobs") as on_progress:
            count = manager.sync.cleanup_old_tasks(
                completed_days=completed_days, failed_days=failed_days, on_progress=on_progress
            )
        freed = _compacted(target, manager) if compact else None
    if target.as_json:
        write_json({"deleted": count, "freed_bytes": freed})
        return
    click.echo(f"{jobs(count)} deleted")
    if freed is not None:
        click.echo(f"{size(freed)} given back")


def _compacted(target: Target, manager: BackgroundTaskManager) -> int:
    with spinner(target, "giving space back"):
        return manager.sync.compact_store()
