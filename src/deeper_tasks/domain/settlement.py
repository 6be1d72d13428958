"""A settlement: the end of one attempt, and the rules by which a store writes it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ErrorReport, Job, Json, Progress
from deeper_tasks.domain.state import State


class End(StrEnum):
    """How an attempt ended."""

    COMPLETE = "complete"
    RETRY = "retry"
    SNOOZE = "snooze"
    RELEASE = "release"
    FAIL = "fail"
    DISCARD = "discard"
    CANCEL = "cancel"

    # The enum's own hash is Python code, and every job makes a lookup by it.
    __hash__ = str.__hash__


STATE_AFTER: dict[End, State] = {
    End.COMPLETE: State.COMPLETED,
    End.RETRY: State.RETRYABLE,
    End.SNOOZE: State.SCHEDULED,
    End.RELEASE: State.PENDING,
    End.FAIL: State.FAILED,
    End.DISCARD: State.DISCARDED,
    End.CANCEL: State.CANCELLED,
}

_RELEASE = End.RELEASE  # To find a member by its class takes ten times as long, and each job needs it.
TASK_UNKNOWN = "its task is unknown here"
ARGUMENTS_UNFIT = "its arguments do not fit its task here"
TOLD_BEFORE = frozenset({TASK_UNKNOWN, ARGUMENTS_UNFIT})
"""Reasons of a release that another event told already."""

UNCOUNTED = frozenset({End.SNOOZE, End.RELEASE})
"""Ends that take the attempt back."""


class Settlement(Struct, frozen=True, kw_only=True):
    """
    The end of the attempt that `token` claimed.

    `delay` (retry, snooze, release) counts from the settle by the store's
    clock. `error` is appended to the job's errors. `ran_for` is None when the
    handler was never started.

    Some settlements mark the job for the attempts to come. `is_task_unknown`: it
    is released because the worker does not know its task; `is_unfit`: because its
    arguments do not fit the signature that the worker knows. The store keeps the
    moment of the first such release of each kind. `is_process_lost`: the
    handler was lost with its process and what ran beside it, or with its process in
    quarantine, which puts or keeps the job in quarantine. A settlement with `ran_for` clears all marks but
    the one it sets; one without keeps them.

    `reason` is why a release gives the job back: it is for the event, and no store keeps it.
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
    A settlement that was accepted, and the state it led to; the job may be in another by now.

    The state is not always the one the end asked for: where a cancel was
    requested, every end but a completion becomes `cancelled`. Where a token
    settles again, it is the state that its first settlement led to.
    """

    id: JobId
    state: State


class MovedJob(Struct, frozen=True, kw_only=True):
    """
    A job that a rescue, an expiry or a cancel moved, and the state it is in now: what is to be told of it.

    `attempt` is the last one that began, the lost one at a rescue. `error` is
    why it failed; `cancel_reason` why the job was cancelled, or is to be.
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
        """Return what is to be told of a job that was moved; `attempt` where that was taken back."""
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
    """News of a running attempt: that it started, how far it is, lines for its log."""

    id: JobId
    token: ClaimToken
    has_started: bool = False
    progress: Progress | None = None
    lines: tuple[str, ...] = ()


def state_after(end: End, *, delay: timedelta, is_cancel_requested: bool) -> State:
    """Return the state that an accepted settlement leads to."""
    if is_cancel_requested and end is not End.COMPLETE:
        return State.CANCELLED
    if end is _RELEASE and delay > timedelta(0):
        return State.SCHEDULED
    return STATE_AFTER[end]


def state_after_rescue(*, attempt: int, max_attempts: int, has_started: bool, is_cancel_requested: bool) -> State:
    """Return the state of a job whose worker died: it runs again unless that was its last attempt, and had started."""
    if is_cancel_requested:
        return State.CANCELLED
    return State.DISCARDED if has_started and attempt >= max_attempts else State.PENDING


def is_spared_by_rescue(*, attempt: int, max_attempts: int, has_started: bool) -> bool:
    """
    Whether a job whose worker died gets this attempt back: it only waited in the worker.

    Every other one has used it, and `worker_lost` is appended to its errors. So has a first attempt of several,
    whose start need not be reported: it may have killed the worker.
    """
    return not has_started and (attempt > 1 or attempt >= max_attempts)


def worker_lost(node: NodeId) -> ErrorReport:
    """Return why an attempt failed whose worker died: after the claim for a slot, maybe before the handler began."""
    message = f"the worker {node} died while it held this job for a run; whether the job's code had begun is not known"
    return ErrorReport(kind="WorkerLost", message=message)
