"""A role: something that a worker does again and again. The loop is written here, once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from deeper_tasks.errors import BackendUnavailableError, NodeLostError
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.health import StoreHealth

_logger = logging.getLogger("deeper_tasks")

_SHORTEST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5.0


class Role(Protocol):
    """One thing to do. A turn does it once."""

    async def turn(self) -> timedelta:
        """Do it once; returns how long to sleep before the next turn."""


class RoleLoop:
    """
    Gives a role its turns until stopped.

    A store that is gone makes the turns come with growing pauses, and back at
    once when it is back. An error of our own is logged, and does not end the loop.
    """

    def __init__(
        self, name: str, role: Role, *, clock: Clock, health: StoreHealth, on_lost: Callable[[], Awaitable[None]]
    ) -> None:
        self.name = name
        self._role = role
        self._clock = clock
        self._health = health
        self._on_lost = on_lost
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Have the next turn now. To be called in the loop's own event loop."""
        self._awake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        failures = 0
        while True:
            self._awake.clear()
            try:
                pause = (await self._role.turn()).total_seconds()
                self._health.mark_working()
                failures = 0
            except NodeLostError:
                await self._on_lost()
                pause = 0.0
            except BackendUnavailableError as error:
                self._health.mark_failing(error)
                failures += 1
                pause = backoff(failures)
            except Exception:
                _logger.exception("the %s met an unexpected error and goes on", self.name)
                failures += 1
                pause = backoff(failures)
            await self._clock.sleep(pause, until=self._awake)


def backoff(failures: int) -> float:
    """Return the pause in seconds after so many failures in a row."""
    return min(_SHORTEST_BACKOFF * 2.0 ** min(failures - 1, 16), _LONGEST_BACKOFF)
