"""The heartbeat watch: notices in the worker's loop that the heartbeat's thread has stopped working."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

_INTERVAL = 1.0
_LEAST_LOOKS = 3


class HeartbeatWatch:
    """
    Looks for signs of the heartbeat once a second, and calls `on_silence` once if none came for half a lease.

    It counts looks and not seconds, because a suspended process or machine suspends the watch as well.
    """

    def __init__(self, *, signs: Callable[[], int], lease: timedelta, on_silence: Callable[[], object]) -> None:
        self._signs = signs
        self._most_looks = max(_LEAST_LOOKS, lease.total_seconds() / 2)
        self._on_silence = on_silence
        self._seen = -1
        self._looks = 0

    async def run(self) -> None:
        """Look until cancelled, or until the heartbeat is silent."""
        while not self.is_silent():  # noqa: ASYNC110 - a silence sets no event
            await asyncio.sleep(_INTERVAL)
        self._on_silence()
        await asyncio.Event().wait()

    def is_silent(self) -> bool:
        """Look once; returns whether the heartbeat has been silent for too long."""
        signs = self._signs()
        self._looks = self._looks + 1 if signs == self._seen else 0
        self._seen = signs
        return self._looks >= self._most_looks
