"""The clock: time, sleep and randomness, passed in so that a test can own them."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Protocol


class Clock(Protocol):
    """Gives a worker its time and its random numbers."""

    def monotonic(self) -> float:
        """Return seconds that never step back."""

    def random(self) -> float:
        """Return a number in [0, 1)."""

    async def sleep(self, seconds: float | None, *, until: asyncio.Event) -> None:
        """Return after `seconds`, or earlier when the event is set; with None, only when the event is set."""


class SystemClock:
    """The machine's own clock."""

    # Called three times for each job; a method around it would double the cost.
    monotonic = staticmethod(time.monotonic)

    def random(self) -> float:
        """Return a pseudo-random number, which is not used for secrets."""
        return random.random()  # noqa: S311

    async def sleep(self, seconds: float | None, *, until: asyncio.Event) -> None:
        """Sleep on the running event loop."""
        if seconds is None:
            await until.wait()
            return
        # A timer must not set the event, because the caller would take that for the thing it waits for.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await until.wait()
