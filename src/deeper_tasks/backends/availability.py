"""The availability of a store to one process: whether it is away, and when which part asks again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from datetime import timedelta
from typing import Protocol

from deeper_tasks import native
from deeper_tasks.forks import process_watch
from deeper_tasks.integrations.events import Event, EventBus, StoreRecovered, StoreUnavailable

_SHORTEST, _LONGEST = 0.4, 0.25
"""The gap between two tries while the store is away: `_LONGEST` seconds, or a share of it down to `_SHORTEST`."""
_OF_THE_OUTAGE, _LONGEST_OF_ALL = 0.01, 5.0
"""The longest gap grows with the outage, so that a store that is away for hours is not tried four times a second."""
_SPREAD = 0.02
"""Seconds over which the waiting parts are spread, so that the same part is not always the first to try."""
_AGAIN = 1.0
"""Seconds between two ends of all pauses by answers to other parts: a store that is only read answers very often."""

_STEADY, _LONGEST_STEADY, _GROWTH = 1.0, 60.0, 4.0
"""Seconds without a failure after which the store counts as back; longer if it failed again soon before."""
_SOON = 60.0


class Sleep(Protocol):
    """A sleep, such as that of the worker's clock."""

    async def __call__(self, seconds: float | None, *, until: asyncio.Event) -> None:
        """Return after `seconds`, or earlier when the event is set."""


class Availability:
    """
    The knowledge of a process whether its store answers.

    Each part of the process that retries after a failure marks its failures here, under a name of its own, and then
    waits in `pause`. While the store is away one part at a time tries it, after a gap of 0.1 to 0.25 seconds. In an
    outage of more than 25 seconds the gap grows to a hundredth of the outage, at most 5 seconds. The first answer to
    any part, also to one that has not failed, ends all pauses together.

    A store may answer one part and not another: a locked file can be read but not written. The store counts as back
    when each part that had failed was answered, and none has failed for a second since. If it fails again within a
    minute, it must answer for longer each time, up to a minute, before it counts as back, so that the log does not
    alternate.

    Safe to use from any thread and event loop.
    """

    def __init__(
        self,
        *,
        bus: EventBus,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.is_away = False
        """Whether a part has failed since the store last counted as back."""
        self._bus = bus
        self._monotonic = monotonic
        self._random = random
        self._back_at = -_SOON
        self._steady = _STEADY
        self._begin()
        process_watch.add(self)

    def _begin(self) -> None:
        self._lock = native.allocate_lock()
        self._failing: set[Hashable] = set()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._failing_since = self._unanswered_since = 0.0
        self._answers_since: float | None = None
        self._next_turn_at = 0.0
        self._released_at = self._monotonic() - _AGAIN

    @property
    def is_working(self) -> bool:
        """Whether the last call of each part was answered."""
        return not self._failing

    def forget_parent(self) -> None:
        """Begin anew in the child of a fork: the waiting parts are its parent's."""
        self.is_away = False
        self._begin()

    def mark_failing(self, error: Exception, *, by: Hashable) -> None:
        """Note that a call of the part `by` failed."""
        with self._lock:
            now, was_away = self._monotonic(), self.is_away
            if not self._failing:
                self._unanswered_since = now
            self._failing.add(by)
            self._answers_since = None
            if not was_away:
                is_soon = now - self._back_at < _SOON
                self._steady = min(self._steady * _GROWTH, _LONGEST_STEADY) if is_soon else _STEADY
                self._failing_since = now
                self.is_away = True
            if now >= self._next_turn_at:
                self._next_turn_at = now + self._gap(now)
        if not was_away:
            self._bus.emit(StoreUnavailable(error=str(error)))

    def mark_working(self, *, by: Hashable) -> None:
        """Note that a call of the part `by` was answered."""
        if self.is_away:
            self._note_answer(by)

    def mark_idle(self, *, by: Hashable) -> None:
        """Note that the part `by`, which may have failed before, makes no calls for now."""
        if self.is_away:
            with self._lock:
                self._failing.discard(by)

    def end_pauses(self) -> None:
        """Let all waiting parts continue now, although nothing is known of the store."""
        with self._lock:
            woken, self._waiting = self._waiting, {}
        _wake(woken)

    async def pause(self, sleep: Sleep, *, until: asyncio.Event) -> None:
        """
        Return when the store is worth another try: it has answered, or it is the caller's turn to try.

        Also return when `until` is set; an answer sets it.
        """
        while not until.is_set() and (seconds := self._wait_for_turn(until)) > 0:
            try:
                await sleep(seconds, until=until)
            finally:
                self._waiting.pop(until, None)

    def _wait_for_turn(self, until: asyncio.Event) -> float:
        """Return the seconds until the caller may try; 0: it is to try now, and the next turn comes after a gap."""
        with self._lock:
            now = self._monotonic()
            left = self._next_turn_at - now
            if not self.is_away:
                return 0.0
            if left <= 0:
                self._next_turn_at = now + self._gap(now)
                return 0.0
            self._waiting[until] = asyncio.get_running_loop()
            return left + _SPREAD * self._random()

    def _gap(self, now: float) -> float:
        longest = min(max(_LONGEST, (now - self._unanswered_since) * _OF_THE_OUTAGE), _LONGEST_OF_ALL)
        return longest * (_SHORTEST + (1 - _SHORTEST) * self._random())

    def _note_answer(self, by: Hashable) -> None:
        woken: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        with self._lock:
            now = self._monotonic()
            has_failed = by in self._failing
            self._failing.discard(by)
            if has_failed or now - self._released_at >= _AGAIN:
                self._released_at = now
                woken, self._waiting = self._waiting, {}
            event = self._recovered(now)
        _wake(woken)
        if event is not None:
            self._bus.emit(event)

    def _recovered(self, now: float) -> Event | None:
        if self._failing or not self.is_away:
            return None
        if self._answers_since is None:
            self._answers_since = now
        if now - self._answers_since < self._steady:
            return None
        self.is_away, self._back_at = False, now
        return StoreRecovered(after=timedelta(seconds=self._answers_since - self._failing_since))


def _wake(waiting: dict[asyncio.Event, asyncio.AbstractEventLoop]) -> None:
    for until, loop in waiting.items():
        with suppress(RuntimeError):  # the event loop was closed, and the part with it
            loop.call_soon_threadsafe(until.set)
