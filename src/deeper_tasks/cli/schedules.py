"""The commands about recurring tasks: `deeper schedules` and what can be done with one of them."""

from __future__ import annotations

import click

from deeper_tasks.cli.completion import complete_schedule
from deeper_tasks.cli.output import console, local_time, write_json
from deeper_tasks.cli.program import CommandGroup
from deeper_tasks.cli.target import Target, takes_target


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  deeper schedules --url sqlite:///tasks.db
  deeper schedules next nightly-report -n 10
  deeper schedules run nightly-report
  deeper schedules remove nightly-report""",
)
def schedules() -> None:
    """Show the recurring tasks, when they run, and control them."""


@schedules.command(
    name="list",
    epilog="""\b
Examples:
  deeper schedules list --url sqlite:///tasks.db
  deeper schedules list --json | jq '.[] | select(.is_paused)'""",
)
@takes_target
def list_schedules(target: Target) -> None:
    """Show each recurring task: what it runs, by which expression, and when next."""
    with target.opened() as manager:
        entries = manager.sync.list_recurring_tasks()
    if target.as_json:
        write_json(entries)
        return
    if not entries:
        click.echo("there is no recurring task")
        return
    from deeper_tasks.cli.drawing_schedules import draw_schedules

    console().print(draw_schedules(entries))


@schedules.command(
    name="next",
    epilog="""\b
Examples:
  deeper schedules next nightly-report
  deeper schedules next nightly-report -n 20 --json""",
)
@click.argument("name", shell_complete=complete_schedule)
@click.option(
    "-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, metavar="COUNT", help="How many runs."
)
@takes_target
def next_runs(target: Target, *, name: str, count: int) -> None:
    """Show when a recurring task runs next, in the local zone."""
    with target.opened() as manager:
        entry = manager.sync.get_recurring_task(name, next_runs=count)
    if target.as_json:
        write_json({"name": entry.name, "is_paused": entry.is_paused, "next_runs": entry.next_runs})
        return
    for moment in entry.next_runs:
        click.echo(local_time(moment))
    if entry.is_paused:
        click.echo(f"deeper: it is paused, and runs at none of them until 'deeper schedules resume {name}'", err=True)


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules run nightly-report
  deeper status $(deeper schedules run nightly-report)"""
)
@click.argument("name", shell_complete=complete_schedule)
@takes_target
def run(target: Target, *, name: str) -> None:
    """Enqueue the job of a recurring task now and print its id. Its times stay as they are."""
    with target.opened() as manager:
        job = manager.sync.run_recurring_task(name)
    if target.as_json:
        write_json({"name": name, "id": str(job), "is_new": job.is_new})
    else:
        click.echo(job)


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules remove nightly-report
  deeper schedules remove nightly-report --json"""
)
@click.argument("name", shell_complete=complete_schedule)
@takes_target
def remove(target: Target, *, name: str) -> None:
    """Remove a recurring task; jobs that it has made stay. Code that registers it anew brings it back."""
    with target.opened() as manager:
        manager.sync.cancel_recurring_task(name)
    _tell(target, name, "removed")


def _tell(target: Target, name: str, outcome: str) -> None:
    if target.as_json:
        write_json({"name": name, "outcome": outcome})
    else:
        click.echo(f"{name} {outcome}")
