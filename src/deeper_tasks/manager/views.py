"""The views: what the facade returns about jobs, queues and workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from deeper_tasks.backends.protocol import Counts, JobList, JobQuery, QueueCounts
from deeper_tasks.backends.reading import Reading
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.job import AttemptError, Job, Json, Progress
from deeper_tasks.domain.nesting import MAX_READABLE_NESTING, nests_too_deep, too_deep
from deeper_tasks.domain.schedule import MissedRuns, Overlap, ScheduleEntry
from deeper_tasks.domain.schedule_run import RunOutcome, ScheduleRun
from deeper_tasks.domain.state import State
from deeper_tasks.domain.view import View
from deeper_tasks.domain.waiting import WaitingFor
from deeper_tasks.manager.cursors import write_cursor
from deeper_tasks.manager.end_counts import Ends
from deeper_tasks.manager.live_workers import Fleet, by_state
from deeper_tasks.manager.waiting import is_unbegun

"""Moments as a store writes those that no `datetime` can hold."""
_anything = msgspec.json.Decoder()
_call = msgspec.json.Decoder(tuple[list[Any], dict[str, Any]])
_NO_ARGUMENTS: tuple[list[Any], dict[str, Any]] = ([], {})


class CancelOutcome(StrEnum):
    """The outcome of a cancel: the job has ended, or its worker is asked to stop it."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"


class TaskStatus(View, frozen=True, kw_only=True):
    """
    One job as its user sees it. Times are aware and in UTC.

    Attributes:
        status: `pending` also for a job that a worker has claimed ahead of its turn and not started.
        worker, function: the two parts of the task's name. If the name has no dot: the module or class that had the
            function when the job was enqueued, and the function's name there.
        attempts: the number of attempts that have started.
        errors: the newest 100 errors of attempts, oldest first; `last_error` is the last of them as one line.
        scheduled_at: when the job was, or is, due.
        attempted_at: the start of the last attempt; None if no attempt has started.
        node: the worker that has the job now.
        cancel_requested: the reason of a cancel, for a job that runs and is asked to stop.
        result: the result of a completed job; None if it has none, and then `result_omitted` may say why.
        unknown_since: since when workers release the job because they do not know its task; None once its handler has
            run, or an operator has retried it.
        unfit_since: the same for arguments that do not fit the workers' code. is_quarantined: an attempt was lost with
        its process, so the next one runs in quarantine. waiting_for: why a job that has not started waits, from
        `get_task_status` only. None if nothing holds it, a worker
            is about to take it, or the reason is unknown.
        damage: the fields that are stored and cannot be read, and why. Such a field has the part that can be read, or a
            stand-in. Empty for a sound job.
    """

    id: str
    status: State
    task: str
    worker: str
    function: str
    queue: str
    priority: int
    attempts: int
    max_attempts: int
    last_error: str | None
    errors: tuple[AttemptError, ...]
    inserted_at: datetime
    scheduled_at: datetime
    attempted_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    node: str | None
    cancel_requested: str | None
    progress: Progress | None
    log: tuple[str, ...]
    tags: tuple[str, ...]
    meta: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]
    result: Any
    result_omitted: str | None
    unknown_since: datetime | None = None
    unfit_since: datetime | None = None
    is_quarantined: bool = False
    waiting_for: WaitingFor | None = None
    damage: tuple[Damage, ...] = ()


def to_status(job: Job, *, waiting_for: WaitingFor | None = None) -> TaskStatus:
    """Return a job as its user sees it. A job that a worker has claimed and not started is still pending."""
    # A name without a module tells nothing of where it runs.
    path = job.task if "." in job.task else job.options.path or job.task
    worker, _, function = path.rpartition(".")
    reading = Reading()
    args, kwargs = reading.field("arguments", lambda: _arguments(job.arguments), instead=_NO_ARGUMENTS)
    result = None if job.result is None else reading.field("result", lambda: _read(job.result or ""), instead=None)
    last = job.errors[-1] if job.errors else None
    return TaskStatus(
        id=job.id,
        status=State.PENDING if is_unbegun(job) else job.state,
        task=job.task,
        worker=worker,
        function=function,
        queue=job.queue,
        priority=job.priority,
        attempts=max(0, job.attempt - 1) if is_unbegun(job) else job.attempt,
        max_attempts=job.max_attempts,
        last_error=None if last is None else f"{last.kind}: {last.message}",
        errors=job.errors,
        inserted_at=job.inserted_at,
        scheduled_at=job.scheduled_at,
        attempted_at=None if _was_only_refused(job) else job.attempted_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        node=job.node,
        cancel_requested=job.cancel_requested,
        progress=job.progress,
        log=job.log,
        tags=job.options.tags,
        meta=job.options.meta,
        args=args,
        kwargs=kwargs,
        result=result,
        result_omitted=job.result_omitted,
        unknown_since=job.unknown_since,
        unfit_since=job.unfit_since,
        is_quarantined=job.is_quarantined,
        waiting_for=waiting_for,
        damage=(*job.damage, *reading.damage),
    )


def _was_only_refused(job: Job) -> bool:
    """Whether workers held the job, and none began an attempt: a claim alone sets the start."""
    has_marks = job.unknown_since is not None or job.unfit_since is not None
    return has_marks and not job.attempt and job.state is not State.RUNNING


def _arguments(document: Json) -> tuple[list[Any], dict[str, Any]]:
    call: tuple[list[Any], dict[str, Any]] = _read(document, _call)
    return call


def _read(document: Json, decoder: msgspec.json.Decoder[Any] = _anything) -> Any:
    if nests_too_deep(document, most=MAX_READABLE_NESTING):
        raise ValueError(too_deep(MAX_READABLE_NESTING))
    return decoder.decode(document)


class Page(View, frozen=True, kw_only=True):
    """
    A page of a list. `next_cursor`, given as `cursor`, returns the next page; it costs the same for each page.

    A cursor continues a list in the same order only: with the same `sort_by` and `descending`.

    `total_is_exact` is False if counting stopped at 10,000.
    """

    entries: tuple[TaskStatus, ...]
    page_number: int
    page_size: int
    total_entries: int
    total_pages: int
    total_is_exact: bool
    next_cursor: str | None


def to_page(listed: JobList, query: JobQuery, *, page: int) -> Page:
    """Return the answer to a query as its user sees it."""
    return Page(
        entries=tuple(map(to_status, listed.jobs)),
        page_number=page,
        page_size=query.limit,
        total_entries=listed.total,
        total_pages=-(-listed.total // query.limit),
        total_is_exact=listed.total_is_exact,
        next_cursor=None if listed.next is None else write_cursor(listed.next, query),
    )


class QueueStatistics(View, frozen=True, kw_only=True):
    """
    The jobs of a queue by state, and how many ended.

    A job that a worker has claimed ahead of its turn counts as pending. `failed_today` counts ends as failed or
    discarded since midnight UTC, `completed_today` ends as completed. They count ends, not jobs: a job that was retried
    by request and failed again counts twice, and a deleted job still counts. `error_rate_today` and
    `error_rate_last_hour` are the share, from 0 to 1, of failed and discarded in all ends, cancelled ones included;
    None if nothing ended. The last hour is the current ten minutes and the six before.
    """

    scheduled: int
    blocked: int
    pending: int
    running: int
    retryable: int
    completed: int
    failed: int
    discarded: int
    cancelled: int
    completed_today: int
    failed_today: int
    is_paused: bool
    ended_today: int
    ended_last_hour: int
    failed_last_hour: int
    error_rate_today: float | None
    error_rate_last_hour: float | None


class WorkersSummary(View, frozen=True, kw_only=True):
    """The living workers of all machines, and how many of their slots run a job."""

    workers: int
    total_busy: int
    total_idle: int


class Statistics(View, frozen=True, kw_only=True):
    """
    The statistics of the whole store. They cost the same however many jobs wait or have ended.

    The error rates are those of all queues together, as in `QueueStatistics`.
    """

    queues: dict[str, QueueStatistics]
    workers_summary: WorkersSummary
    error_rate_today: float | None
    error_rate_last_hour: float | None


def to_statistics(counts: Counts, *, lease: timedelta) -> Statistics:
    """Return the counts as their user sees them."""
    fleet = Fleet(counts.nodes, counts.held, now=counts.now, lease=lease)
    # A damaged node can hold more than it has slots.
    busy = min(fleet.slots, fleet.busy)
    queues = counts.queues.values()
    return Statistics(
        queues={name: _queue(queue, running=fleet.running(name)) for name, queue in counts.queues.items()},
        workers_summary=WorkersSummary(workers=len(fleet.living), total_busy=busy, total_idle=fleet.slots - busy),
        error_rate_today=Ends.of(*(queue.ended_today for queue in queues)).error_rate,
        error_rate_last_hour=Ends.of(*(queue.ended_last_hour for queue in queues)).error_rate,
    )


def _queue(counts: QueueCounts, *, running: int) -> QueueStatistics:
    today, last_hour = Ends.of(counts.ended_today), Ends.of(counts.ended_last_hour)
    return QueueStatistics(
        **{state.value: count for state, count in by_state(counts, running=running).items()},
        completed_today=counts.ended_today.get(State.COMPLETED, 0),
        failed_today=today.failed,
        is_paused=counts.paused_at is not None,
        ended_today=today.ended,
        ended_last_hour=last_hour.ended,
        failed_last_hour=last_hour.failed,
        error_rate_today=today.error_rate,
        error_rate_last_hour=last_hour.error_rate,
    )


class RecurringTask(View, frozen=True, kw_only=True):
    """
    A recurring task: its call and its next due times. Times are aware and in UTC.

    `last_run` is the last due time that made a job, `last_task_id` the last job, also one that was run by request.
    `is_declared`: the code declares it, as `@task(cron=…)`. If it is paused, `next_run` is the run at which it stopped.
    `fault` says why it is never due, if its expression or zone cannot be used here; then it has no `next_runs`. There
    are fewer of them than asked for where the calendar ends.
    `damage` names the fields that are stored and cannot be read: such an entry
    makes no jobs until it is registered again, or removed.
    """

    name: str
    task: str
    queue: str
    cron_expression: str
    timezone: str
    missed_runs: MissedRuns
    overlap: Overlap
    next_run: datetime
    last_run: datetime | None
    last_task_id: str | None
    is_paused: bool
    next_runs: tuple[datetime, ...]
    args: list[Any]
    kwargs: dict[str, Any]
    is_declared: bool
    fault: str | None = None
    damage: tuple[Damage, ...] = ()


def to_recurring_task(entry: ScheduleEntry, *, runs: int) -> RecurringTask:
    """Return an entry as its user sees it, with its next `runs` due times."""
    schedule, recurrence = entry.schedule, entry.schedule.recurrence
    reading = Reading()
    args, kwargs = reading.field("arguments", lambda: _arguments(schedule.spec.arguments), instead=_NO_ARGUMENTS)
    return RecurringTask(
        name=schedule.name,
        task=schedule.spec.task,
        queue=schedule.spec.queue,
        cron_expression=recurrence.expression,
        timezone=recurrence.timezone,
        missed_runs=schedule.missed_runs,
        overlap=schedule.overlap,
        next_run=entry.next_run,
        last_run=entry.last_run,
        last_task_id=entry.last_job,
        is_paused=entry.paused_at is not None,
        next_runs=() if entry.damage else _next_runs(entry, runs),
        args=args,
        kwargs=kwargs,
        is_declared=schedule.is_declared,
        fault=None if entry.damage else recurrence.fault,
        damage=(*entry.damage, *reading.damage),
    )


def _next_runs(entry: ScheduleEntry, count: int) -> tuple[datetime, ...]:
    recurrence = entry.schedule.recurrence
    if recurrence.fault is not None or entry.next_run >= END_OF_TIME:
        return ()
    return (entry.next_run, *recurrence.next_runs(count - 1, after=entry.next_run))


class RecurringRun(View, frozen=True, kw_only=True):
    """
    One run of a recurring task. Times are aware and in UTC.

    `due_at` is its due time, `fired_at` the time at which a worker fired it. `task_id` is the job that it made, None if
    `outcome` says that it was held back. `status` is the job's state now, None once the job has been cleaned up.
    `damage` names the fields that are stored and cannot be read.
    """

    due_at: datetime
    fired_at: datetime
    outcome: RunOutcome
    task_id: str | None
    status: State | None
    damage: tuple[Damage, ...] = ()


def to_recurring_run(run: ScheduleRun) -> RecurringRun:
    """Return a run as its user sees it."""
    return RecurringRun(
        due_at=run.due,
        fired_at=run.fired_at,
        outcome=run.outcome,
        task_id=run.job,
        status=run.state,
        damage=run.damage,
    )
