"""A rescheduling: another due time for a job that waits, and the rules for its state and its expiry."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from deeper_tasks.domain.end_of_time import END_OF_TIME, later
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State


class Rescheduled(Struct, frozen=True, kw_only=True):
    """A job that was given another due time: the state that it left, the one it is in now, and when it is due."""

    id: JobId
    task: str
    queue: str
    attempt: int
    before: State
    state: State
    scheduled_at: datetime

    @classmethod
    def of(cls, job: Job, *, before: State) -> Rescheduled:
        """Return what is to be told of a job as it is now."""
        return cls(
            id=job.id,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt,
            before=before,
            state=job.state,
            scheduled_at=job.scheduled_at,
        )


def due_moment(due: datetime | timedelta | None, *, now: datetime) -> datetime:
    """Return the moment that is meant: one that has passed is now, and None is now."""
    if due is None:
        return now
    return max(min(due, END_OF_TIME) if isinstance(due, datetime) else later(now, due), now)


def state_when_due(before: State, *, is_due: bool) -> State:
    """Return the state of a job that is due now or later: `retryable` stays what it is, all else is scheduled."""
    if is_due:
        return State.PENDING
    return State.RETRYABLE if before is State.RETRYABLE else State.SCHEDULED


def moved_expiry(expires_at: datetime, *, was: datetime, due: datetime) -> datetime:
    """
    Return the expiry of a job whose due time moves from `was` to `due`: it moves by the same shift.

    An expiry that lies before the due time, as it may while a retry is waited for, is never brought
    forward: the job would be dead at the moment that it is called to run.
    """
    if due >= was:
        return later(expires_at, due - was)
    return expires_at - (was - due) if expires_at > was else expires_at
