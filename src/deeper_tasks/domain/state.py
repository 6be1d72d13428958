"""The states of a job and the one table of the transitions between them."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class State(StrEnum):
    """The state of a job."""

    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    PENDING = "pending"
    RUNNING = "running"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    FAILED = "failed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"

    # The hash of an enum is Python code, which is slow, and every job makes several lookups by state.
    __hash__ = str.__hash__

    @property
    def is_terminal(self) -> bool:
        """Whether a job in this state has ended: only a manual retry leaves it."""
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.DISCARDED, State.CANCELLED})
DEAD_LETTER = frozenset({State.FAILED, State.DISCARDED})
WAITING = frozenset({State.SCHEDULED, State.BLOCKED, State.PENDING, State.RETRYABLE})
AWAITS_ITS_TIME = frozenset({State.SCHEDULED, State.RETRYABLE})
"""The states that a job leaves when it is due."""
MAY_EXPIRE = frozenset({State.PENDING, State.RETRYABLE})
"""The states in which a job fails once its expiry has passed."""
MAY_BE_RESCHEDULED = AWAITS_ITS_TIME | {State.PENDING}
"""The states in which a job's due time can be moved."""
MAY_RUN_AGAIN = DEAD_LETTER | {State.CANCELLED}
"""The ends that an operator's retry leaves."""


class Cause(StrEnum):
    """The cause of a transition from one state to another."""

    DUE = "becomes due"
    UNBLOCK = "the jobs it waited for ended"
    CLAIM = "claimed by a worker"
    COMPLETE = "the handler returned"
    RETRY = "the attempt failed, another follows"
    SNOOZE = "the handler asked for a later time"
    RELEASE = "released unstarted or at shutdown"
    RESCUE = "its worker died"
    FAIL = "ended by an error that no retry can mend"
    DISCARD = "used up its attempts"
    EXPIRE = "not started in time"
    CANCEL = "stopped by request"
    MANUAL_RETRY = "an operator's retry"
    RESCHEDULE = "given another due time"


class Transition(Struct, frozen=True, kw_only=True):
    """One allowed step: in state `before`, `cause` leads to `after`."""

    before: State
    cause: Cause
    after: State


def _steps(before: State, *steps: tuple[Cause, State]) -> list[Transition]:
    return [Transition(before=before, cause=cause, after=after) for cause, after in steps]


TRANSITIONS: tuple[Transition, ...] = (
    *_steps(
        State.SCHEDULED,
        (Cause.DUE, State.PENDING),
        (Cause.RESCHEDULE, State.PENDING),
        (Cause.CANCEL, State.CANCELLED),
    ),
    *_steps(State.BLOCKED, (Cause.UNBLOCK, State.PENDING), (Cause.CANCEL, State.CANCELLED)),
    *_steps(
        State.PENDING,
        (Cause.CLAIM, State.RUNNING),
        (Cause.RESCHEDULE, State.SCHEDULED),
        (Cause.EXPIRE, State.FAILED),
        (Cause.CANCEL, State.CANCELLED),
    ),
    *_steps(
        State.RUNNING,
        (Cause.COMPLETE, State.COMPLETED),
        (Cause.RETRY, State.RETRYABLE),
        (Cause.SNOOZE, State.SCHEDULED),
        (Cause.RELEASE, State.PENDING),
        (Cause.RELEASE, State.SCHEDULED),
        (Cause.RESCUE, State.PENDING),
        (Cause.RESCUE, State.DISCARDED),
        (Cause.RESCUE, State.CANCELLED),
        (Cause.FAIL, State.FAILED),
        (Cause.EXPIRE, State.FAILED),
        (Cause.DISCARD, State.DISCARDED),
        (Cause.CANCEL, State.CANCELLED),
    ),
    *_steps(
        State.RETRYABLE,
        (Cause.DUE, State.PENDING),
        (Cause.RESCHEDULE, State.PENDING),
        (Cause.EXPIRE, State.FAILED),
        (Cause.CANCEL, State.CANCELLED),
    ),
    *_steps(State.FAILED, (Cause.MANUAL_RETRY, State.PENDING)),
    *_steps(State.DISCARDED, (Cause.MANUAL_RETRY, State.PENDING)),
    *_steps(State.CANCELLED, (Cause.MANUAL_RETRY, State.PENDING)),
)
"""
All transitions. No row leaves the final state, `completed`. Only `MANUAL_RETRY` leaves the other terminal states.
"""


def is_allowed(before: State, after: State) -> bool:
    """Return whether some cause leads from `before` to `after` in one step."""
    return any(step.before is before and step.after is after for step in TRANSITIONS)
