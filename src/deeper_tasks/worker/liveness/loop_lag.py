"""The loop lag of a worker: how long its loop has not answered, measured every second from the heartbeat's thread."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

_logger = logging.getLogger("deeper_tasks")

_INTERVAL = 1.0

TellLag = Callable[[float], None]
"""Takes the seconds for which the worker's loop has not answered."""


class LoopLag:
    """
    Asks the worker's loop for an answer once a second, and reports for how long the loop has not answered.

    It does not use the store, so an outage does not stop it.
    """

    def __init__(self, *, worker_loop: asyncio.AbstractEventLoop, tell: TellLag) -> None:
        self._worker_loop = worker_loop
        self._tell = tell
        self._asked_at: float | None = None

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            try:
                self._tell(self._lag())
            except Exception:
                # The log itself may have failed.
                with suppress(BaseException):
                    _logger.exception("the loop lag could not be reported; the next report follows")
            await asyncio.sleep(_INTERVAL)

    def _lag(self) -> float:
        # Read once, because the loop's thread may answer at any moment.
        asked_at = self._asked_at
        if asked_at is not None:
            return time.monotonic() - asked_at
        self._asked_at = time.monotonic()
        with suppress(RuntimeError):
            self._worker_loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._asked_at = None
