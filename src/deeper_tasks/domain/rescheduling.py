"""A rescheduling: another due time for a waiting job, and the state and the expiry that follow from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec import Struct

from deeper_tasks.domain.end_of_time import END_OF_TIME, later
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State


class Rescheduled(Struct, frozen=True, kw_only=True):
    """A job that was given another due time: the state it was in before, its state now, and when it is due."""

    id: JobId
    task: str
    queue: str
    attempt: int
    before: State
    state: State
    scheduled_at: datetime

    @classmethod
    def of(cls, job: Job, *, before: State) -> Rescheduled:
        """Return the answer about a job as it is now."""
        return cls(
            id=job.id,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt,
            before=before,
            state=job.state,
            scheduled_at=job.scheduled_at,
        )


class NewDue(NamedTuple):
    """The change of a rescheduled job: its state, when it is due, and when it expires; None: it does not expire."""

    state: State
    scheduled_at: datetime
    expires_at: datetime | None


def new_due(
    before: State,
    *,
    due: datetime | timedelta | None,
    scheduled_at: datetime | None,
    expires_at: datetime | None,
    now: datetime,
) -> NewDue | None:
    """
    Return the change of a job in one of the states `MAY_BE_RESCHEDULED`; None if nothing changes.

    `due` is a moment, or a time after now. None ends the job's delay: it is due now, and its expiry stays. Nothing
    changes for a pending job then: it is due already, and keeps its place.

    `scheduled_at` and `expires_at` are as they were; None where one is missing or cannot be read. The expiry stays
    where its distance from the due time is not known.
    """
    if due is None and before is State.PENDING:
        return None
    moment = due_moment(due, now=now)
    if due is not None and scheduled_at is not None and expires_at is not None:
        expires_at = moved_expiry(expires_at, was=scheduled_at, due=moment)
    return NewDue(state_when_due(before, is_due=moment <= now), moment, expires_at)


def due_moment(due: datetime | timedelta | None, *, now: datetime) -> datetime:
    """Return when a job is due: at a moment, or so long after now. None, and a moment that has passed, are now."""
    if due is None:
        return now
    return max(min(due, END_OF_TIME) if isinstance(due, datetime) else later(now, due), now)


def state_when_due(before: State, *, is_due: bool) -> State:
    """Return the state of a rescheduled job: pending if it is due; if not, it stays retryable or is scheduled."""
    if is_due:
        return State.PENDING
    return State.RETRYABLE if before is State.RETRYABLE else State.SCHEDULED


def moved_expiry(expires_at: datetime, *, was: datetime, due: datetime) -> datetime:
    """
    Return the expiry of a job whose due time moves from `was` to `due`. It moves by the same time.

    An expiry that is earlier than the due time, as it may be for a retryable job, is never made earlier still: the job
    would expire at the moment that it is asked to run.
    """
    if due >= was:
        return later(expires_at, due - was)
    return expires_at - (was - due) if expires_at > was else expires_at
