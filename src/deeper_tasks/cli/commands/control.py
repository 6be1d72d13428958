"""The commands that change jobs: `deeper cancel`, `retry`, `reschedule`, `run-now` and `delete`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import click
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.confirm import check_choice, is_confirmed
from deeper_tasks.cli.filter_options import add_dead_letters, takes_filters
from deeper_tasks.cli.parameters import duration, moment
from deeper_tasks.cli.program import ExitCode, report_error
from deeper_tasks.cli.rendering.formats import jobs, local_time
from deeper_tasks.cli.rendering.output import write_json
from deeper_tasks.cli.rendering.progress import count_of, progress_bar
from deeper_tasks.cli.target import Target, takes_target
from deeper_tasks.cli.unknown_names import warn_of_unknown_names
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
@takes_filters
@click.option("--reason", default=_REASON, show_default=True, metavar="TEXT")
@click.option("--yes", is_flag=True, help="Do not ask before cancelling all jobs that meet the conditions.")
@takes_target
def cancel(target: Target, *, ids: tuple[str, ...], conditions: Conditions, reason: str, yes: bool) -> ExitCode:
    """
    Cancel jobs, by their ids or by conditions.

    A job that has not started ends at once ('cancelled'). A running job is asked
    to stop ('requested'). With several ids, each is tried, and the exit code is
    that of the first failure.
    """
    check_choice(ids, conditions)
    with target.opened() as manager:
        if ids:
            return _each(target, manager, ids, partial(_cancelled, reason=reason))
        conditions.setdefault("status", sorted(set(State) - TERMINAL))
        if not yes and not is_confirmed(target, manager, conditions, what="cancel"):
            return ExitCode.REFUSED
        with progress_bar(target, "cancelling", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.cancel_tasks(reason=reason, on_progress=on_progress, **conditions)
        if not count and yes:
            warn_of_unknown_names(manager, conditions)
    _print_count(target, count, "cancelled, or asked to stop")
    return ExitCode.DONE


@click.command(
    epilog="""\b
Examples:
  deeper retry 0197c2f0-… 0197c2f1-…
  deeper retry --all-dead
  deeper retry --status discarded --queue emails"""
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@takes_filters
@click.option("--all-dead", is_flag=True, help="Retry all dead letters: failed and discarded jobs.")
@takes_target
def retry(target: Target, *, ids: tuple[str, ...], conditions: Conditions, all_dead: bool) -> ExitCode:
    """
    Run failed, discarded or cancelled jobs again.

    The jobs keep their errors, and get as many new attempts as they had at
    first. Conditions without --status select dead letters: failed and
    discarded jobs.
    """
    if all_dead and (ids or conditions):
        raise click.UsageError("--all-dead selects all dead letters; leave out --all-dead, or the ids and conditions")
    if not all_dead:
        check_choice(ids, conditions, alternative=", or --all-dead")
    with target.opened() as manager:
        if ids:
            return _each(target, manager, ids, _retried)
        conditions.setdefault("status", sorted(DEAD_LETTER))
        with progress_bar(target, "retrying", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.retry_tasks(on_progress=on_progress, **conditions)
        if not count:
            warn_of_unknown_names(manager, conditions)
    _print_count(target, count, "made pending again")
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
    Give waiting jobs another due time.

    The jobs may be scheduled, pending, or waiting for a retry. A time in the
    past makes a job due now. The expiry of a job moves by the same amount. A job
    that runs or has ended is refused. With several ids, each is tried, and the
    exit code is that of the first failure.
    """
    if (due is None) == (delay is None):
        raise click.UsageError("the new due time is missing or given twice; give --at TIME or --delay TIME, not both")
    at = due if due is not None else timedelta(seconds=delay or 0)
    with target.opened() as manager:
        return _each(target, manager, ids, partial(_rescheduled, at=at))


@click.command(
    epilog="""\b
Examples:
  deeper run-now 0197c2f0-…
  deeper run-now 0197c2f0-… 0197c2f1-… --json
  deeper queues resume emails     (for the jobs of a paused queue)
  deeper retry 0197c2f0-…         (for a failed job)"""
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@takes_target
def run_now(target: Target, *, ids: tuple[str, ...]) -> ExitCode:
    """
    Make jobs due now, and wake a worker.

    The jobs may be scheduled, wait for a retry, or have been snoozed or released
    by a worker. A paused queue stays paused, and no slot is added: the job is
    pending until a worker claims it. A job that runs or has ended is refused.
    With several ids, each is tried, and the exit code is that of the first
    failure.
    """
    with target.opened() as manager:
        return _each(target, manager, ids, _made_due)


@click.command(
    epilog="""\b
Examples:
  deeper delete 0197c2f0-… 0197c2f1-…
  deeper delete --dead --task myapp.tasks.report
  deeper delete --queue old --yes --json"""
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@takes_filters
@click.option("--dead", is_flag=True, help="Only dead letters: failed and discarded jobs.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting all jobs that meet the conditions.")
@takes_target
def delete(target: Target, *, ids: tuple[str, ...], conditions: Conditions, dead: bool, yes: bool) -> ExitCode:
    """
    Delete jobs permanently, by their ids or by conditions.

    A running job is never deleted: its id is refused (cancel the job first), and
    conditions pass over it. Several ids must be given in full; each is tried,
    and the exit code is that of the first failure.
    """
    add_dead_letters(conditions, dead=dead)
    check_choice(ids, conditions)
    with target.opened() as manager:
        if ids:
            _check_whole(manager, ids)
            return _each(target, manager, ids, _deleted)
        conditions.setdefault("status", sorted(set(State) - {State.RUNNING}))
        if not yes and not is_confirmed(target, manager, conditions, what="delete"):
            return ExitCode.REFUSED
        with progress_bar(target, "deleting", total=count_of(manager, conditions)) as on_progress:
            count = manager.sync.delete_tasks(on_progress=on_progress, **conditions)
        if not count and yes:
            warn_of_unknown_names(manager, conditions)
    _print_count(target, count, "deleted")
    return ExitCode.DONE


class _Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of an operation for one job, and its due time, if that was changed."""

    id: str
    outcome: str
    scheduled_at: datetime | None = None

    def __str__(self) -> str:
        due = "" if self.scheduled_at is None else f", due {local_time(self.scheduled_at)}"
        return f"{self.id} {self.outcome}{due}"


def _check_whole(manager: BackgroundTaskManager, ids: Sequence[str]) -> None:
    """Refuse short ids in a list of jobs to delete: a job that is deleted by mistake cannot be restored."""
    form = manager.backend.capabilities.ids
    short = next((task_id for task_id in ids if form.parse(task_id) is None), None)
    if len(ids) > 1 and short is not None:
        raise click.UsageError(f"{short!r} is a short id; to delete several jobs at once, give their ids in full")


def _each(
    target: Target,
    manager: BackgroundTaskManager,
    ids: Sequence[str],
    change: Callable[[BackgroundTaskManager, str], _Outcome],
) -> ExitCode:
    """Change the jobs one by one; an id may be short. Return the exit code of the first failure."""
    outcomes: list[_Outcome] = []
    code = ExitCode.DONE
    for task_id in ids:
        try:
            outcomes.append(change(manager, manager.sync.expand_task_id(task_id)))
        except (JobError, InvalidOptionError) as error:
            code = code or report_error(error, as_json=target.as_json)
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


def _made_due(manager: BackgroundTaskManager, task_id: str) -> _Outcome:
    manager.sync.run_task_now(task_id)
    return _Outcome(id=task_id, outcome=State.PENDING.value)


def _deleted(manager: BackgroundTaskManager, task_id: str) -> _Outcome:
    manager.sync.delete_task(task_id)
    return _Outcome(id=task_id, outcome="deleted")


def _print_count(target: Target, count: int, what: str) -> None:
    if target.as_json:
        write_json({"count": count})
    else:
        click.echo(f"{jobs(count)} {what}")
