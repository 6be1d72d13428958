"""A settlement: the end of one attempt, and the rules by which a store writes it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ErrorReport, Json, Progress
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


STATE_AFTER: dict[End, State] = {
    End.COMPLETE: State.COMPLETED,
    End.RETRY: State.RETRYABLE,
    End.SNOOZE: State.SCHEDULED,
    End.RELEASE: State.PENDING,
    End.FAIL: State.FAILED,
    End.DISCARD: State.DISCARDED,
    End.CANCEL: State.CANCELLED,
}

UNCOUNTED = frozenset({End.SNOOZE, End.RELEASE})
"""Ends that take the attempt back."""


class Settlement(Struct, frozen=True, kw_only=True):
    """
    The end of the attempt that `token` claimed.

    `delay` (retry, snooze, release) counts from the settle by the store's
    clock. `error` is appended to the job's errors. `ran_for` is None when the
    handler was never started. `is_task_unknown` marks a release because the
    worker does not know the task: the store keeps since when that is so, until
    the job is settled otherwise.
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


class Settled(Struct, frozen=True, kw_only=True):
    """
    A settlement that was accepted, and the state the job is in now.

    The state is not always the one the end asked for: where a cancel was
    requested, every end but a completion becomes `cancelled`.
    """

    id: JobId
    state: State


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
    if end is End.RELEASE and delay > timedelta(0):
        return State.SCHEDULED
    return STATE_AFTER[end]


def state_after_rescue(*, has_attempts_left: bool, is_cancel_requested: bool) -> State:
    """Return the state of a job whose worker died: it runs again unless that was its last attempt."""
    if is_cancel_requested:
        return State.CANCELLED
    return State.PENDING if has_attempts_left else State.DISCARDED
