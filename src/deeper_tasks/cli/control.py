"""The commands that change jobs: `deeper cancel`, `deeper retry` and `deeper delete`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.asking import check_choice, is_wanted
from deeper_tasks.cli.conditions import add_dead, takes_conditions
from deeper_tasks.cli.output import jobs, write_json
from deeper_tasks.cli.program import ExitCode, tell
from deeper_tasks.cli.progress import count_of, progress_bar
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.domain.state import DEAD_LETTER, TERMINAL, State
from deeper_tasks.errors import JobError
from deeper_tasks.manager.conditions import Conditions

_REASON = "cancelled from the command line"


@click.command(
    epilog="""\b
Examples:
  deeper cancel 0197c2f0-… --reason 'wrong recipient'
  deeper cancel --queue emails --status pending --yes
  deeper cancel --task myapp.tasks.report"""
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@takes_conditions
@click.option("--reason", default=_REASON, show_default=True, metavar="TEXT")
@click.option("--yes", is_flag=True, help="Cancel all that meet the conditions without asking.")
@takes_target
def cancel(target: Target, *, ids: tuple[str, ...], conditions: Conditions, reason: str, yes: bool) -> ExitCode:
    """
    Cancel jobs, by their ids or by conditions.

    One that has not started ends at once ('cancelled'). A running one is asked
    to stop ('requested'). Of several ids each is tried; the exit code is that
    of the first that failed.
    """
    check_choice(ids, conditions)
    with target.opened() as manager:
        if ids:
            return _each(target, ids, lambda task_id: manager.sync.cancel_task(task_id, reason=reason).value)
        conditions.setdefault("status", sorted(set(State) - TERMINAL))
        if not yes and not is_wanted(target, manager, conditions, what="cancel"):
            return ExitCode.REFUSED
        with progress_bar(target, "cancelling", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.cancel_tasks(reason=reason, on_progress=on_progress, **conditions)
    _tell_count(target, count, "cancelled, or asked to stop")
    return ExitCode.DONE


@click.command(
    epilog="""\b
Examples:
  deeper retry 0197c2f0-… 0197c2f1-…
  deeper retry --all-dead
  deeper retry --status discarded --queue emails"""
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@takes_conditions
@click.option("--all-dead", is_flag=True, help="All dead letters: whatever failed or was discarded.")
@takes_target
def retry(target: Target, *, ids: tuple[str, ...], conditions: Conditions, all_dead: bool) -> ExitCode:
    """
    Run jobs again that failed, were discarded or cancelled.

    They keep their errors, and get as many further attempts as they had at
    first. Conditions without --status mean dead letters: failed and discarded.
    """
    if all_dead and (ids or conditions):
        raise click.UsageError("--all-dead means all of them; leave it out, or the ids and conditions")
    if not all_dead:
        check_choice(ids, conditions, alternative=", or --all-dead")
    with target.opened() as manager:
        if ids:
            return _each(target, ids, lambda task_id: _retried(manager, task_id))
        conditions.setdefault("status", sorted(DEAD_LETTER))
        with progress_bar(target, "retrying", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.retry_tasks(on_progress=on_progress, **conditions)
    _tell_count(target, count, "made pending again")
    return ExitCode.DONE


@click.command(
    epilog="""\b
Examples:
  deeper delete 0197c2f0-… 0197c2f1-…
  deeper delete --dead --task myapp.tasks.report
  deeper delete --queue old --yes --json"""
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@takes_conditions
@click.option("--dead", is_flag=True, help="Only dead letters: whatever failed or was discarded.")
@click.option("--yes", is_flag=True, help="Delete all that meet the conditions without asking.")
@takes_target
def delete(target: Target, *, ids: tuple[str, ...], conditions: Conditions, dead: bool, yes: bool) -> ExitCode:
    """
    Delete jobs for good, by their ids or by conditions.

    A running one is never deleted: by its id that is refused, cancel it first;
    by conditions it is left alone. Of several ids each is tried; the exit code
    is that of the first that failed.
    """
    add_dead(conditions, dead=dead)
    check_choice(ids, conditions)
    with target.opened() as manager:
        if ids:
            return _each(target, ids, lambda task_id: _deleted(manager, task_id))
        conditions.setdefault("status", sorted(set(State) - {State.RUNNING}))
        if not yes and not is_wanted(target, manager, conditions, what="delete"):
            return ExitCode.REFUSED
        with progress_bar(target, "deleting", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.delete_tasks(on_progress=on_progress, **conditions)
    _tell_count(target, count, "deleted")
    return ExitCode.DONE


def _each(target: Target, ids: Sequence[str], change: Callable[[str], str]) -> ExitCode:
    outcomes = []
    code = ExitCode.DONE
    for task_id in ids:
        try:
            outcomes.append({"id": task_id, "outcome": change(task_id)})
        except JobError as error:
            code = code or tell(error, as_json=target.as_json)
    if target.as_json:
        write_json(outcomes)
    else:
        for outcome in outcomes:
            click.echo(f"{outcome['id']} {outcome['outcome']}")
    return code


def _retried(manager: BackgroundTaskManager, task_id: str) -> str:
    manager.sync.retry_task(task_id)
    return State.PENDING.value


def _deleted(manager: BackgroundTaskManager, task_id: str) -> str:
    manager.sync.delete_task(task_id)
    return "deleted"


def _tell_count(target: Target, count: int, what: str) -> None:
    if target.as_json:
        write_json({"count": count})
    else:
        click.echo(f"{jobs(count)} {what}")
