"""The commands that change jobs: `deeper cancel`, `retry`, `reschedule`, `run-now` and `delete`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import click
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.conditions import add_dead, takes_conditions
from deeper_tasks.cli.confirm import check_choice, is_wanted
from deeper_tasks.cli.parameters import duration, moment
from deeper_tasks.cli.program import ExitCode, tell
from deeper_tasks.cli.rendering.output import jobs, local_time, write_json
from deeper_tasks.cli.rendering.progress import count_of, progress_bar
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.cli.unmatched import warn_of_unmatched
from deeper_tasks.domain.ids import parse_id
from deeper_tasks.domain.state import DEAD_LETTER, TERMINAL, State
from deeper_tasks.errors import InvalidOptionError, JobError
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
            return _each(target, manager, ids, partial(_cancelled, reason=reason))
        conditions.setdefault("status", sorted(set(State) - TERMINAL))
        if not yes and not is_wanted(target, manager, conditions, what="cancel"):
            return ExitCode.REFUSED
        with progress_bar(target, "cancelling", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.cancel_tasks(reason=reason, on_progress=on_progress, **conditions)
        if not count and yes:
            warn_of_unmatched(manager, conditions)
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
            return _each(target, manager, ids, _retried)
        conditions.setdefault("status", sorted(DEAD_LETTER))
        with progress_bar(target, "retrying", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.retry_tasks(on_progress=on_progress, **conditions)
        if not count:
            warn_of_unmatched(manager, conditions)
    _tell_count(target, count, "made pending again")
    return ExitCode.DONE


@click.command(
    epilog="""\b
Examples:
  deeper reschedule 0197c2f0-… --at 2026-01-31T09:00
  deeper reschedule 0197c2f0-… 0197c2f1-… --delay 2h
  deeper reschedule 0197c2f0-… --at 2026-01-31T09:00+01:00 --json"""
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--at", "due", type=moment, metavar="TIME", help="Due at this time (ISO; local without a zone).")
@click.option("--delay", type=duration, metavar="TIME", help="Due after this time from now: 90, 10m, 2h, 7d.")
@takes_target
def reschedule(target: Target, *, ids: tuple[str, ...], due: datetime | None, delay: float | None) -> ExitCode:
    """
    Give jobs that wait another due time.

    They may be scheduled, wait for a retry, or be pending. A time that has
    passed means now. A job's expiry moves along by the same shift. One that
    runs or has ended is refused. Of several ids each is tried; the exit code
    is that of the first that failed.
    """
    if (due is None) == (delay is None):
        raise click.UsageError("say when: --at TIME, or --delay TIME from now, and not both")
    at = due if due is not None else timedelta(seconds=delay or 0)
    with target.opened() as manager:
        return _each(target, manager, ids, partial(_rescheduled, at=at))


@click.command(
    epilog="""\b
Examples:
  deeper run-now 0197c2f0-…
  deeper run-now 0197c2f0-… 0197c2f1-… --json
  deeper queues resume emails     (what a paused queue holds)
  deeper retry 0197c2f0-…         (what has failed)"""
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@takes_target
def run_now(target: Target, *, ids: tuple[str, ...]) -> ExitCode:
    """
    End the delay of jobs: they are due now, and a worker is woken.

    That goes for scheduled jobs, for those that wait for a retry, and for
    those that were put off or given back. A paused queue stays paused, and
    slots stay as many as they are: the job is pending until a worker takes
    it. One that runs or has ended is refused. Of several ids each is tried;
    the exit code is that of the first that failed.
    """
    with target.opened() as manager:
        return _each(target, manager, ids, _called)


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
    by conditions it is left alone. Of several ids, which must be whole, each is
    tried; the exit code is that of the first that failed.
    """
    add_dead(conditions, dead=dead)
    check_choice(ids, conditions)
    _check_whole(ids)
    with target.opened() as manager:
        if ids:
            return _each(target, manager, ids, _deleted)
        conditions.setdefault("status", sorted(set(State) - {State.RUNNING}))
        if not yes and not is_wanted(target, manager, conditions, what="delete"):
            return ExitCode.REFUSED
        with progress_bar(target, "deleting", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.delete_tasks(on_progress=on_progress, **conditions)
        if not count and yes:
            warn_of_unmatched(manager, conditions)
    _tell_count(target, count, "deleted")
    return ExitCode.DONE


class _Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of an operation for one job, and its due time, if that was changed."""

    id: str
    outcome: str
    scheduled_at: datetime | None = None

    def __str__(self) -> str:
        due = "" if self.scheduled_at is None else f", due {local_time(self.scheduled_at)}"
        return f"{self.id} {self.outcome}{due}"


def _check_whole(ids: Sequence[str]) -> None:
    """Refuse short ids of several jobs that are to be deleted: what is gone by mistake does not come back."""
    short = next((task_id for task_id in ids if parse_id(task_id) is None), None)
    if len(ids) > 1 and short is not None:
        raise click.UsageError(f"{short!r} is no whole id; to delete several jobs at once, give their ids whole")


def _each(
    target: Target,
    manager: BackgroundTaskManager,
    ids: Sequence[str],
    change: Callable[[BackgroundTaskManager, str], _Outcome],
) -> ExitCode:
    """Change the jobs one by one; an id may be a short one."""
    outcomes: list[_Outcome] = []
    code = ExitCode.DONE
    for task_id in ids:
        try:
            outcomes.append(change(manager, manager.sync.expand_task_id(task_id)))
        except (JobError, InvalidOptionError) as error:
            code = code or tell(error, as_json=target.as_json)
    if target.as_json:
        write_json(outcomes)
    else:
        for outcome in outcomes:
            click.echo(str(outcome))
    return code


def _cancelled(manager: BackgroundTaskManager, task_id: str, *, reason: str) -> _Outcome:
    return _Outcome(id=task_id, outcome=manager.sync.cancel_task(task_id, reason=reason).value)


def _retried(manager: BackgroundTaskManager, task_id: str) -> _Outcome:
    manager.sync.retry_task(task_id)
    return _Outcome(id=task_id, outcome=State.PENDING.value)


def _rescheduled(manager: BackgroundTaskManager, task_id: str, *, at: datetime | timedelta) -> _Outcome:
    due = manager.sync.reschedule_task(task_id, at)
    return _Outcome(id=task_id, outcome="rescheduled", scheduled_at=due)


def _called(manager: BackgroundTaskManager, task_id: str) -> _Outcome:
    manager.sync.run_task_now(task_id)
    return _Outcome(id=task_id, outcome=State.PENDING.value)


def _deleted(manager: BackgroundTaskManager, task_id: str) -> _Outcome:
    manager.sync.delete_task(task_id)
    return _Outcome(id=task_id, outcome="deleted")


def _tell_count(target: Target, count: int, what: str) -> None:
    if target.as_json:
        write_json({"count": count})
    else:
        click.echo(f"{jobs(count)} {what}")
