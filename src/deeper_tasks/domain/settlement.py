"""A settlement: the end of one attempt, as the worker sends it and as the store answers it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ErrorReport, Job, Json, Progress
from deeper_tasks.domain.state import State


class End(StrEnum):
    """The end of an attempt."""

    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    RELEASE = "release"
    FAIL = "fail"
    DISCARD = "discard"
    CANCEL = "cancel"

    # The enum's own hash is Python code, and every job makes a lookup by it.
    __hash__ = str.__hash__


TASK_UNKNOWN = "its task is unknown here"
ARGUMENTS_UNFIT = "its arguments do not fit its task here"
ANNOUNCED_REASONS = frozenset({TASK_UNKNOWN, ARGUMENTS_UNFIT})
"""The reasons of a release for which another event is emitted already."""


class Settlement(Struct, frozen=True, kw_only=True):
    """
    The end of the attempt that `token` claimed.

    `delay` (retry, snooze, release) counts from the time of the write, by the store's clock. `error` is appended to the
    job's errors. `ran_for` is None if the handler was never started.

    Some settlements leave a mark for later attempts. `is_task_unknown`: the job is released because the worker does
    not know its task. `is_unfit`: it is released because its arguments do not fit the signature that the worker knows.
    The store keeps the moment of the first such release of each kind. `is_process_lost`: the handler was lost with its
    process, in which other jobs may have run, or with its process in quarantine; this puts or keeps the job in
    quarantine. A settlement with `ran_for` clears all marks except the one that it sets; one without keeps them.

    `reason` is why the worker releases the job. It is for the event; no store keeps it.
    """

    id: JobId
    token: ClaimToken
    end: End
    delay: timedelta = timedelta(0)
    error: ErrorReport | None = None
    result: Json | None = None
    result_omitted: str | None = None
    ran_for: timedelta | None = None
    is_task_unknown: bool = False
    is_unfit: bool = False
    is_process_lost: bool = False
    reason: str = ""


class Settled(Struct, frozen=True, kw_only=True):
    """
    A settlement that was accepted, and the state that it led to; by now the job may be in another.

    If a cancel was requested, every end except a completion leads to `cancelled`. If a token settles again, the state
    is the one that its first settlement led to.
    """

    id: JobId
    state: State


class MovedJob(Struct, frozen=True, kw_only=True):
    """
    A job that a rescue, an expiry or a cancel moved, with its state now: the facts for the events.

    `attempt` is the last that began; after a rescue, the lost one. `error` is why that failed; `cancel_reason` is why
    the job was cancelled, or is to be.
    """

    id: JobId
    state: State
    task: str
    queue: str
    attempt: int
    error: ErrorReport | None = None
    cancel_reason: str | None = None

    @classmethod
    def of(cls, job: Job, *, attempt: int | None = None, error: ErrorReport | None = None) -> MovedJob:
        """Return the facts of a job that was moved; `attempt` is given if that was taken back."""
        return cls(
            id=job.id,
            state=job.state,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt if attempt is None else attempt,
            error=error,
            cancel_reason=job.cancel_requested,
        )


class Report(Struct, frozen=True, kw_only=True):
    """A report of a running attempt: its start, its progress, and lines for its log."""

    id: JobId
    token: ClaimToken
    has_started: bool = False
    progress: Progress | None = None
    lines: tuple[str, ...] = ()


def worker_lost(node: NodeId) -> ErrorReport:
    """Return the error of an attempt whose worker died, whether the handler had begun or not."""
    message = f"the worker {node} died while it held this job for a run; whether the job's code had begun is not known"
    return ErrorReport(kind="WorkerLost", message=message)
