"""Settlement events: emitted for each attempt, and for jobs that other workers held, once the store has the end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TypedDict

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import EXPIRED, ClaimedJob, ErrorReport
from deeper_tasks.domain.settlement import ARGUMENTS_UNFIT, TASK_UNKNOWN, End, MovedJob, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events import (
    EventBus,
    JobCancelled,
    JobCompleted,
    JobDiscarded,
    JobEvent,
    JobExpired,
    JobFailed,
    JobReleased,
    JobRetried,
    JobSnoozed,
    ResultOmitted,
    SettlementRefused,
)


class _About(TypedDict):
    """The fields that every event of a job has."""

    job_id: JobId
    task: str
    queue: str
    attempt: int


_COMPLETED = State.COMPLETED
_NO_ERROR = ErrorReport(kind="", message="")
_KINDS: dict[State, type[JobEvent]] = {
    State.COMPLETED: JobCompleted,
    State.RETRYABLE: JobRetried,
    State.FAILED: JobFailed,
    State.DISCARDED: JobDiscarded,
    State.CANCELLED: JobCancelled,
}


def announce(bus: EventBus, answered: Iterable[tuple[ClaimedJob, Settlement, State | None]]) -> None:
    """Emit the events of settlements, each of which the store accepted with a state, or refused (None)."""
    wanted: dict[type[JobEvent], bool] = {JobCompleted: bus.wants(JobCompleted)}
    wants_completed = wanted[JobCompleted]
    for job, settlement, state in answered:
        # Nearly all settlements. If no subscriber wants their event, they cost no call.
        if state is _COMPLETED and settlement.result_omitted is None and not wants_completed:
            continue
        if settlement.result_omitted is not None and state is not None:
            bus.emit(ResultOmitted(**_job(job), reason=settlement.result_omitted))
        kind = _kind(settlement, state)
        if kind not in wanted:
            wanted[kind] = bus.wants(kind)
        if wanted[kind]:
            bus.emit(_event(kind, job, settlement))


def announce_end(bus: EventBus, job: MovedJob) -> None:
    """Emit the event of a job that ended without its worker; a job that goes on has none."""
    about: _About = {"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}
    error = job.error or _NO_ERROR
    if job.state is State.FAILED:
        bus.emit(JobExpired(**about) if error == EXPIRED else JobFailed(**about, error=error))
    elif job.state is State.DISCARDED:
        bus.emit(JobDiscarded(**about, error=error))
    elif job.state is State.CANCELLED:
        bus.emit(JobCancelled(**about, reason=job.cancel_reason or ""))


def _kind(settlement: Settlement, state: State | None) -> type[JobEvent]:
    if state is None:
        return SettlementRefused
    if state in _KINDS:
        # The job may have expired after the worker had claimed it.
        is_expired = state is State.FAILED and settlement.ran_for is None and settlement.error == EXPIRED
        return JobExpired if is_expired else _KINDS[state]
    return JobSnoozed if settlement.end is End.SNOOZE else JobReleased


def _event(kind: type[JobEvent], job: ClaimedJob, settlement: Settlement) -> JobEvent:  # noqa: PLR0911 - one a kind
    about, ran_for, error = _job(job), settlement.ran_for, settlement.error or _NO_ERROR
    if kind is JobCompleted:
        return JobCompleted(**about, ran_for=ran_for or timedelta(0))
    if kind is JobRetried:
        return JobRetried(**about, ran_for=ran_for, max_attempts=job.max_attempts, error=error, delay=settlement.delay)
    if kind is JobExpired:
        return JobExpired(**about)
    if kind is JobFailed:
        return JobFailed(**about, ran_for=ran_for, error=error)
    if kind is JobDiscarded:
        return JobDiscarded(**about, ran_for=ran_for, error=error)
    if kind is JobCancelled:
        return JobCancelled(**about, ran_for=ran_for, reason=error.message)
    if kind is JobSnoozed:
        return JobSnoozed(**about, ran_for=ran_for, delay=settlement.delay)
    if kind is SettlementRefused:
        return SettlementRefused(**about, end=settlement.end)
    return JobReleased(**about, reason=_why_released(settlement))


def _why_released(settlement: Settlement) -> str:
    if settlement.is_task_unknown:
        return TASK_UNKNOWN
    if settlement.is_unfit:
        return ARGUMENTS_UNFIT
    return settlement.reason or "not started"


def _job(job: ClaimedJob) -> _About:
    return {"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}
