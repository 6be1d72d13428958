"""The command `deeper cleanup`."""

from __future__ import annotations

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.rendering.formats import jobs, size
from deeper_tasks.cli.rendering.output import write_json
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
@click.option("--completed-days", type=float, metavar="DAYS", help="Keep completed jobs for this many days.")
@click.option(
    "--failed-days", type=float, metavar="DAYS", help="Keep failed, discarded and cancelled jobs for this many days."
)
@click.option(
    "--compact", is_flag=True, help="Return unused space to the system at once; the store accepts no writes meanwhile."
)
@takes_target
def cleanup(target: Target, *, completed_days: float | None, failed_days: float | None, compact: bool) -> None:
    """
    Delete ended jobs that are older than the given days, or than the settings allow.

    Workers also delete such jobs, a few at a time. --compact then rebuilds the
    store, so that the system gets all unused space back. That takes some seconds
    for each gigabyte, in which enqueues and workers wait, and needs free space of
    the size of the store.
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
        click.echo(f"{size(freed)} returned to the system")


def _compacted(target: Target, manager: BackgroundTaskManager) -> int:
    with spinner(target, "compacting"):
        return manager.sync.compact_store()
