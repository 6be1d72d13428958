"""The health of the store as a worker sees it: told when it goes and when it is back, and not at every try."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from deeper_tasks.integrations.events import EventBus, StoreRecovered, StoreUnavailable
from deeper_tasks.worker.clock import Clock

_STEADY, _LONGEST_STEADY, _GROWTH = 1.0, 60.0, 4.0
"""Seconds without a failure after which the store is told to be back; longer where it has failed again soon before."""
_SOON = 60.0


class StoreHealth:
    """
    Whether the store answers.

    A store may answer one role and not another: while its file is locked it is read, and nothing is written. It is
    told to be back when each role that has failed was answered, and none has failed for a second since. One that
    fails again within a minute after that must answer for ever longer, up to a minute, so that the log does not
    flicker.
    """

    def __init__(self, *, bus: EventBus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._failing_since: float | None = None
        self._failing: set[str] = set()
        self._answers_since: float | None = None
        self._steady = _STEADY
        self._told_back_at = -_SOON
        self._are_woken = False
        self._on_back: list[Callable[[], None]] = []

    @property
    def is_working(self) -> bool:
        """Whether the last call of each role was answered."""
        return not self._failing

    def on_back(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when the store answers again: a role that pauses after failures need not find out."""
        self._on_back.append(wake)

    def mark_failing(self, error: Exception, *, by: str) -> None:
        """Note that a call of the role `by` failed."""
        self._failing.add(by)
        self._answers_since, self._are_woken = None, False
        if self._failing_since is None:
            now = self._failing_since = self._clock.monotonic()
            is_soon = now - self._told_back_at < _SOON
            self._steady = min(self._steady * _GROWTH, _LONGEST_STEADY) if is_soon else _STEADY
            self._bus.emit(StoreUnavailable(error=str(error)))

    def mark_working(self, *, by: str) -> None:
        """Note that a call of the role `by` was answered."""
        if self._failing_since is not None:
            self._note_answer(self._failing_since, by)

    def mark_idle(self, *, by: str) -> None:
        """Note that the role `by`, which may have failed before, asked nothing this time."""
        self._failing.discard(by)

    def _note_answer(self, failing_since: float, by: str) -> None:
        self._failing.discard(by)
        if not self._are_woken:
            self._are_woken = True
            for wake in self._on_back:
                wake()
        if self._failing:
            return
        now = self._clock.monotonic()
        if self._answers_since is None:
            self._answers_since = now
        if now - self._answers_since >= self._steady:
            self._failing_since, self._told_back_at = None, now
            self._bus.emit(StoreRecovered(after=timedelta(seconds=self._answers_since - failing_since)))
