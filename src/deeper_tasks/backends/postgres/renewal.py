"""The renewal: decides when all sessions of a store are replaced by new ones."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from deeper_tasks import native

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_QUIET = 60.0
"""Seconds without a refusal after which the pauses begin again with the shortest."""


class Renewal:
    """
    Decides when all sessions of a process are replaced, after the server refused a call because of its session.

    After a failover, or a change of a role's settings, a session stays as it was: for example read-only, while a new
    one could write. If the server refuses the new sessions too, it is not asked for more at every call: the pause
    until the next renewal doubles, up to a second. Safe to use from any number of threads.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.generation = 0
        """Grows with each renewal. A session of an earlier generation is not used any more."""
        self._monotonic = monotonic
        self._lock = native.allocate_lock()
        self._pause = _SHORTEST_PAUSE
        self._refused_at = self._not_before = -_QUIET
        self._listening: dict[object, Callable[[], None]] = {}

    def refused(self, generation: int) -> bool:
        """Note a refusal in a session of this generation; return whether a newer session may be opened now."""
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
        """Call `renew` at each renewal, in any thread, until `leave`."""
        with self._lock:
            self._listening[listener] = renew

    def leave(self, listener: object) -> None:
        """Stop calling the listener."""
        with self._lock:
            self._listening.pop(listener, None)

    def forget_parent(self) -> None:
        """Drop the parent's listeners in the child of a fork, and a lock that may never be released."""
        self._lock = native.allocate_lock()
        self._listening = {}
