"""The renewal: when the sessions of a store have had their day, and are replaced by new ones."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from deeper_tasks import native

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_QUIET = 60.0
"""Seconds without a refusal after which the next one is the first again."""


class Renewal:
    """
    Decides when all sessions of a process are replaced, because the server refused one for what it is.

    After a failover, or a change of the settings of a role, a session stays what it was: read-only, say, while a new
    one could write. A server that refuses the new ones too is not asked for more of them at every call: the pause
    until the next renewal doubles, up to a second. Safe to use from any number of threads.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.generation = 0
        """Grows with each renewal. A session that was opened in an earlier one is to be used no more."""
        self._monotonic = monotonic
        self._lock = native.allocate_lock()
        self._pause = _SHORTEST_PAUSE
        self._refused_at = self._not_before = -_QUIET
        self._listening: dict[object, Callable[[], None]] = {}

    def refused(self, generation: int) -> bool:
        """Note that a session of a generation was refused; returns whether a newer one is to be had now."""
        with self._lock:
            now = self._monotonic()
            if now - self._refused_at >= _QUIET:
                self._pause = _SHORTEST_PAUSE
            self._refused_at = now
            if generation < self.generation:
                return True
            if now < self._not_before:
                return False
            self._not_before = now + random.uniform(self._pause / 2, self._pause)  # noqa: S311 - no secret
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self.generation += 1
            listening = list(self._listening.values())
        for renew in listening:
            renew()
        return True

    def listen(self, listener: object, renew: Callable[[], None]) -> None:
        """Have `renew` called at each renewal, in any thread, until `leave`."""
        with self._lock:
            self._listening[listener] = renew

    def leave(self, listener: object) -> None:
        """Call the listener no more."""
        with self._lock:
            self._listening.pop(listener, None)

    def forget_parent(self) -> None:
        """In the child of a fork: none of the parent's listeners is its own, and the lock may be held for ever."""
        self._lock = native.allocate_lock()
        self._listening = {}
