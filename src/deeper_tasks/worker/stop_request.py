"""The stop request of a worker: whether it should stop, how soon, and why it stops by itself."""

from __future__ import annotations

import asyncio

from deeper_tasks.integrations.events import WorkerStuck
from deeper_tasks.worker.announcer import Announcer
from deeper_tasks.worker.liveness.joining import Joining
from deeper_tasks.worker.liveness.last_resort import LastResort


class StopRequest:
    """
    Keeps the requests to stop that a worker has had.

    `requested` is set by the first one, and `is_urgent` by the second: then running jobs get no grace period.
    """

    def __init__(self, *, last_resort: LastResort, joining: Joining, announcer: Announcer) -> None:
        self.requested = asyncio.Event()
        self.is_urgent = asyncio.Event()
        self.stuck_because: str | None = None
        """Why the worker stops by itself: lost slots, or a part of it that has ended again and again."""
        self._last_resort = last_resort
        self._joining = joining
        self._announcer = announcer
        self._stops = self._signals = 0

    @property
    def is_set(self) -> bool:
        """Whether the worker should stop."""
        return self.requested.is_set()

    def stop(self) -> None:
        """Request a stop. To be called in the worker's loop."""
        self._stops += 1
        self._last_resort.note_stop(self._stops)
        if self.requested.is_set():
            self.is_urgent.set()
        self.requested.set()
        self._joining.stop()

    def note_signal(self) -> None:
        """Note that a signal requests a stop. Safe to call from any thread; the loop, which may be blocked, stops."""
        self._signals += 1
        self._last_resort.note_stop(self._signals)

    def stop_stuck(self, reason: str) -> None:
        """Request a stop because this worker cannot go on; a supervisor then starts another process."""
        if not self.requested.is_set():
            self.stuck_because = reason
            self._announcer.announce(WorkerStuck, reason=reason)
            self.stop()
