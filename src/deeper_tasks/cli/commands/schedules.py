"""The commands about recurring tasks: `deeper schedules` and its subcommands."""

from __future__ import annotations

from shlex import quote

import click

from deeper_tasks.cli.completion.names import complete_schedule
from deeper_tasks.cli.program import CommandGroup
from deeper_tasks.cli.rendering.formats import local_time, safe
from deeper_tasks.cli.rendering.output import console, terminal_width, write_json
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.domain.damage import described


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  deeper schedules --url sqlite:///tasks.db
  deeper schedules --json | jq -r '.[] | .name + " " + .next_run'
  deeper schedules next nightly-report -n 10
  deeper schedules run nightly-report
  deeper schedules history nightly-report
  deeper schedules pause nightly-report
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
    """Show each recurring task: its cron expression, its task, its last run and its next run."""
    with target.opened() as manager:
        entries = manager.sync.list_recurring_tasks()
        removed = manager.sync.list_removed_recurring_tasks()
    if target.as_json:
        write_json(entries)
        return
    if entries:
        from deeper_tasks.cli.rendering.schedules import render_schedules

        screen = console()
        screen.print(render_schedules(entries, width=terminal_width(screen)))
    else:
        click.echo("there is no recurring task")
    for name in removed:
        click.echo(f"deeper: {safe(name)} is declared in the code, but was removed; {_way_back(name)}", err=True)


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
    """Show the next times at which a recurring task runs, in the local zone."""
    with target.opened() as manager:
        entry = manager.sync.get_recurring_task(name, next_runs=count)
    if target.as_json:
        write_json(
            {
                "name": entry.name,
                "is_paused": entry.is_paused,
                "next_runs": entry.next_runs,
                "fault": entry.fault,
                "damage": entry.damage,
            }
        )
        return
    for moment in entry.next_runs:
        click.echo(local_time(moment))
    if entry.damage:
        remedy = "register it again, or remove it"
        damage = safe(described(entry.damage))
        click.echo(f"deeper: {safe(name)} is damaged, and makes no jobs: {damage}; {remedy}", err=True)
    elif not entry.next_runs:
        click.echo(f"deeper: {safe(name)} is never due: {safe(entry.fault or 'the calendar ends')}", err=True)
    if entry.is_paused:
        click.echo(
            f"deeper: {safe(name)} is paused, and makes no jobs until 'deeper schedules resume {safe(quote(name))}'",
            err=True,
        )


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules run nightly-report
  deeper status $(deeper schedules run nightly-report)"""
)
@click.argument("name", shell_complete=complete_schedule)
@takes_target
def run(target: Target, *, name: str) -> None:
    """Enqueue a job of a recurring task now, and print the job's id. Its next run stays as planned."""
    with target.opened() as manager:
        job = manager.sync.run_recurring_task(name)
    if target.as_json:
        write_json({"name": name, "id": str(job), "is_new": job.is_new})
    else:
        click.echo(job)


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules pause nightly-report
  deeper schedules pause nightly-report --json"""
)
@click.argument("name", shell_complete=complete_schedule)
@takes_target
def pause(target: Target, *, name: str) -> None:
    """Pause a recurring task: it makes no jobs until you resume it. A deploy keeps the pause."""
    with target.opened() as manager:
        manager.sync.pause_recurring_task(name)
    _tell(target, name, "paused")


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules resume nightly-report
  deeper schedules resume nightly-report --json"""
)
@click.argument("name", shell_complete=complete_schedule)
@takes_target
def resume(target: Target, *, name: str) -> None:
    """
    Resume a paused recurring task, from its next due time on.

    Runs that were due during the pause are not made up for. A recurring task
    that the code declares, and that was removed, is restored.
    """
    with target.opened() as manager:
        entry = manager.sync.resume_recurring_task(name)
    if target.as_json:
        write_json({"name": name, "outcome": "resumed", "next_run": entry.next_run})
    else:
        click.echo(f"{name} resumed, next run {local_time(entry.next_run)}")


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules history nightly-report
  deeper schedules history nightly-report -n 100 --json | jq '.[].outcome'"""
)
@click.argument("name", shell_complete=complete_schedule)
@click.option(
    "-n", "count", type=click.IntRange(1, 100), default=20, show_default=True, metavar="COUNT", help="How many runs."
)
@takes_target
def history(target: Target, *, name: str, count: int) -> None:
    """Show the last runs of a recurring task, the newest first, each with its outcome and the state of its job."""
    with target.opened() as manager:
        runs = manager.sync.recurring_task_history(name, limit=count)
    if target.as_json:
        write_json(runs)
        return
    if not runs:
        click.echo(f"{name} has not run yet")
        return
    from deeper_tasks.cli.rendering.schedules import render_history

    console().print(render_history(runs))


@schedules.command(
    epilog="""\b
Examples:
  deeper schedules remove nightly-report
  deeper schedules remove nightly-report --json"""
)
@click.argument("name", shell_complete=complete_schedule)
@takes_target
def remove(target: Target, *, name: str) -> None:
    """
    Remove a recurring task; the jobs that it has made stay.

    A recurring task that the code declares stays removed, even when workers
    start again, until its definition in the code changes. 'deeper schedules
    resume' restores it.
    """
    with target.opened() as manager:
        manager.sync.cancel_recurring_task(name)
        is_declared = name in manager.sync.list_removed_recurring_tasks()
    _tell(target, name, "removed")
    if is_declared:
        click.echo(f"deeper: {safe(name)} is still declared in the code; {_way_back(name)}", err=True)


def _way_back(name: str) -> str:
    return f"it returns when its definition there changes, or by 'deeper schedules resume {safe(quote(name))}'"


def _tell(target: Target, name: str, outcome: str) -> None:
    if target.as_json:
        write_json({"name": name, "outcome": outcome})
    else:
        click.echo(f"{name} {outcome}")
