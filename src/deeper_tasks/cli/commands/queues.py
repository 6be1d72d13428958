"""The commands about queues: `deeper queues`, `deeper queues pause` and `deeper queues resume`."""

from __future__ import annotations

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.completion.names import complete_queue
from deeper_tasks.cli.program import CommandGroup
from deeper_tasks.cli.rendering.formats import jobs, safe
from deeper_tasks.cli.rendering.output import console, terminal_width, write_json
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.manager import QueueOverview


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  deeper queues --url sqlite:///tasks.db
  deeper queues --json | jq '.[] | select(.workers == 0 and .pending > 0)'
  deeper queues pause emails
  deeper queues resume emails""",
)
def queues() -> None:
    """Show the queues, pause them, and resume them."""


@queues.command(
    name="list",
    epilog="""\b
Examples:
  deeper queues list --url sqlite:///tasks.db
  deeper queues list --json | jq '.[].name'""",
)
@takes_target
def list_queues(target: Target) -> None:
    """Show each queue: its jobs, its pause, and the slots that live workers have for it."""
    with target.opened() as manager:
        overview = manager.sync.get_overview()
    if target.as_json:
        write_json(overview.queues)
        return
    if not overview.queues:
        click.echo("no queue has had a job yet")
        return
    from deeper_tasks.cli.rendering.queues import render_queues

    screen = console()
    screen.print(render_queues(overview, width=terminal_width(screen)))


@queues.command(
    epilog="""\b
Examples:
  deeper queues pause emails --url sqlite:///tasks.db
  deeper queues pause emails --json"""
)
@click.argument("name", shell_complete=complete_queue)
@takes_target
def pause(target: Target, *, name: str) -> None:
    """Pause a queue: no worker starts its jobs any more. Running jobs continue."""
    with target.opened() as manager:
        known = _known(manager)
        manager.sync.queues.pause(name)
        _tell(target, manager, name, known, "paused")


@queues.command(
    epilog="""\b
Examples:
  deeper queues resume emails --url sqlite:///tasks.db
  deeper queues resume emails --json"""
)
@click.argument("name", shell_complete=complete_queue)
@takes_target
def resume(target: Target, *, name: str) -> None:
    """Resume a paused queue: workers start its jobs again."""
    with target.opened() as manager:
        known = _known(manager)
        manager.sync.queues.resume(name)
        _tell(target, manager, name, known, "resumed")


def _known(manager: BackgroundTaskManager) -> list[str]:
    return [queue.name for queue in manager.sync.get_overview().queues]


def _tell(target: Target, manager: BackgroundTaskManager, name: str, known: list[str], what: str) -> None:
    queue = next((each for each in manager.sync.get_overview().queues if each.name == name), None)
    if target.as_json:
        write_json({"queue": name, "outcome": what, "was_known": name in known, "pending": _pending(queue)})
        return
    click.echo(f"{name} {what}, with {jobs(_pending(queue))} pending")
    if name not in known:
        there_are = f"there are: {safe(', '.join(known))}" if known else "there is no queue yet"
        click.echo(f"deeper: the queue {name!r} has never had a job, and no worker serves it; {there_are}", err=True)


def _pending(queue: QueueOverview | None) -> int:
    return 0 if queue is None else queue.pending
