"""
Transitions: the change that each act makes to a job. The rules of all stores, without I/O and without a clock.

A store reads a job, asks for the change, and writes it, with the counters and the unique key, in one transaction.
All changes come from a small finite set and are made once: a decision allocates nothing.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from msgspec import Struct

from deeper_tasks.domain.marks import Mark, mark_of
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State

LARGEST_NUMBER = 2_147_483_647
"""The largest number of attempts that every store can write."""

_NO_DELAY = timedelta(0)
_STATE_AFTER = {
    End.COMPLETE: State.COMPLETED,
    End.RETRY: State.RETRYABLE,
    End.SNOOZE: State.SCHEDULED,
    End.RELEASE: State.PENDING,
    End.FAIL: State.FAILED,
    End.DISCARD: State.DISCARDED,
    End.CANCEL: State.CANCELLED,
}
_UNCOUNTED = frozenset({End.SNOOZE, End.RELEASE})
"""The ends that do not count as an attempt."""
_COMPLETE = End.COMPLETE  # To find a member by its class takes ten times as long, and each job needs it.


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """
    The effect of one act on one job. A field that is not set leaves that part of the job as it is.

    Attributes:
        state: the state that follows; None: the job is deleted.
        is_end: the job has ended by this act, or was deleted before it ended. Each end of a job, of whatever kind, is
            one such change; nothing else is.
        attempts_taken_back: 1 where the attempt does not count; see `attempt_after`.
        is_put_off: the job is due the act's `delay` after now.
        starts_anew: an operator runs an ended job again. It is due now; expiry, end, cancel request, `unknown_since`
            and `unfit_since` are cleared; its maximum is `max_attempts_after_retry`; it takes its unique key again,
            until it ends, if no other job holds that, and otherwise runs without.
        keeps_error: the act's error, if it has one, is appended to the job's errors.
        answers_token: the state is also the answer to all later settlements with the same token (`led_to`).
        drops_token: a later settlement with this token is refused.
        requests_cancel: the job goes on, and its worker is asked to cancel it. The first reason stays.
        clears_marks: what earlier attempts noted is forgotten, but for `mark`.
        mark: the note for the attempts to come; a moment that is noted already stays.
        releases_key: a unique key held until the job's end is free; one held for a period stays held.
        frees_key: the unique key is free, also one held for a period.
    """

    state: State | None
    is_end: bool = False
    attempts_taken_back: int = 0
    is_put_off: bool = False
    starts_anew: bool = False
    keeps_error: bool = False
    answers_token: bool = False
    drops_token: bool = False
    requests_cancel: bool = False
    clears_marks: bool = False
    mark: Mark | None = None
    releases_key: bool = False
    frees_key: bool = False

    @property
    def finishes(self) -> bool:
        """Whether now is when the job finished; if not, it has no such time."""
        return self.is_end and self.state is not None

    def attempt_after(self, attempt: int) -> int:
        """Return the number of attempts that count, after this change. It is never negative, even if `attempt` is."""
        return max(attempt - self.attempts_taken_back, 0)


# insert and claim


def state_of_new(*, is_due: bool) -> State:
    """Return the state of a new job."""
    return State.PENDING if is_due else State.SCHEDULED


CLAIM = Change(state=State.RUNNING)
"""A worker takes a pending job: it gets a new token, counts one more attempt, and its old progress is forgotten."""


def starts_at_claim(place: int, *, slots: int, is_quarantined: bool) -> bool:
    """Return whether the job at a place (from 0) of a claim starts at once. Any other waits in the worker for now."""
    return place < slots and not is_quarantined


# the end of an attempt


def after_settlement(settlement: Settlement, *, is_cancel_requested: bool) -> Change:
    """
    Return the change by a settlement whose token holds.

    The delay is the settlement's. The result is kept where the state is `completed`.
    """
    if settlement.end is _COMPLETE:
        return COMPLETION
    has_delay, has_run = settlement.delay > _NO_DELAY, settlement.ran_for is not None
    return _settled(settlement.end, has_delay, is_cancel_requested, has_run, mark_of(settlement))


@cache
def _settled(end: End, has_delay: bool, is_cancel_requested: bool, has_run: bool, mark: Mark | None) -> Change:  # noqa: FBT001 - by position the cache is found twice as fast
    state = _STATE_AFTER[end]
    if is_cancel_requested and end is not End.COMPLETE:
        state = State.CANCELLED
    elif end is End.RELEASE and has_delay:
        state = State.SCHEDULED
    is_end = state.is_terminal
    return Change(
        state=state,
        is_end=is_end,
        attempts_taken_back=int(end in _UNCOUNTED and not is_end),
        # Released without a delay, a job keeps its due time, and so its place in the queue.
        is_put_off=not is_end and (end is not End.RELEASE or has_delay),
        keeps_error=True,
        answers_token=True,
        clears_marks=has_run,
        mark=mark,
        releases_key=is_end,
    )


COMPLETION = _settled(_COMPLETE, False, False, True, None)
"""The handler returned: nearly all ends are this one. A completion carries no error, and ends a requested cancel."""


# without the worker


def after_rescue(
    *, attempt: int, max_attempts: int, has_started: bool, is_cancel_requested: bool, is_trusted: bool
) -> Change:
    """
    Return the change of a running job whose worker died. The error is `worker_lost`.

    The job runs again, unless its last attempt had started. An attempt that had not started only waited in the worker
    and does not count. The first attempt of several counts in any case: its start need not be reported, so the job may
    have killed the worker. `is_trusted`: the task is known not to kill its worker, so the job is not quarantined.
    """
    is_last = attempt >= max_attempts
    state = State.DISCARDED if has_started and is_last else State.PENDING
    return _rescued(
        State.CANCELLED if is_cancel_requested else state,
        is_spared=not has_started and (attempt > 1 or is_last),
        is_suspect=has_started and not is_trusted,
    )


@cache
def _rescued(state: State, *, is_spared: bool, is_suspect: bool) -> Change:
    return Change(
        state=state,
        is_end=state.is_terminal,
        attempts_taken_back=int(is_spared),
        keeps_error=not is_spared,
        drops_token=True,
        mark=Mark.QUARANTINED if is_suspect else None,
        releases_key=state.is_terminal,
    )


PROMOTION = Change(state=State.PENDING)
"""A scheduled or retryable job is due."""

EXPIRY = Change(state=State.FAILED, is_end=True, keeps_error=True, releases_key=True)
"""A pending or retryable job was not started before it expired. The error is `EXPIRED`."""


# by request

CANCELLATION = Change(state=State.CANCELLED, is_end=True, releases_key=True)
"""A job that waits is cancelled."""

CANCEL_REQUEST = Change(state=State.RUNNING, requests_cancel=True)
"""A job that runs is to be cancelled: its worker ends it."""

MANUAL_RETRY = Change(state=State.PENDING, starts_anew=True)
"""An operator runs a failed, discarded or cancelled job again."""


def after_cancel(before: State) -> Change:
    """Return the change of a job, not ended, that is to be cancelled."""
    return CANCEL_REQUEST if before is State.RUNNING else CANCELLATION


def max_attempts_after_retry(attempt: int, original: int) -> int:
    """Return the maximum of attempts after a manual retry: those that were used, and the original maximum again."""
    used, more = min(max(attempt, 0), LARGEST_NUMBER), min(max(original, 1), LARGEST_NUMBER)
    return min(used + more, LARGEST_NUMBER)


def after_delete(before: State) -> Change:
    """
    Return the change of a job, not running, that is deleted.

    A key that a completed job holds for a period stays held: a clean-up must not shorten the period in which the work
    is not done again. Any other deleted job frees its key.
    """
    return _deleted(is_end=not before.is_terminal, frees_key=before is not State.COMPLETED)


@cache
def _deleted(*, is_end: bool, frees_key: bool) -> Change:
    return Change(state=None, is_end=is_end, frees_key=frees_key)
