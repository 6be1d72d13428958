"""The sender: sends the hints of one event loop to the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context

from deeper_tasks.backends.postgres.codec import text_array
from deeper_tasks.backends.postgres.database import Database
from deeper_tasks.errors import DeeperTasksError

_logger = logging.getLogger("deeper_tasks")

NOTIFY = (
    "SELECT pg_notify(%(channel)s::text, hint) FROM unnest(%(hints)s::text[]) AS sent (hint) "
    "WHERE (SELECT {schema}.have_hints_room())"
)

INTERVAL = 0.01
"""
Seconds between two equal hints, on average. Each takes a lock of the whole server at its commit and wakes every
listener, which then sees all new jobs: in a burst, one hint in this time is enough for all.
"""

AT_ONCE = 10
"""Equal hints that may leave without a pause after a quiet time: jobs that come one by one do not wait."""

_CREDIT = INTERVAL * (AT_ONCE - 1)

_FAREWELL = 2.0
"""Seconds for sending the last hints, when the loop or the store ends."""


class Sender:
    """
    Sends hints in a task of its own, so that no caller waits for the database. It belongs to the loop that made it.

    A hint leaves at once, unless too many equal ones just did; then it leaves after an interval, once for all that came
    meanwhile. The rule is that of a leaky bucket (the generic cell rate algorithm of ITU-T I.371). Hints that are due
    leave in one statement. A hint that cannot be sent is dropped: polling alone is correct.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._due: dict[str, float] = {}
        # By hint: the moment until which the hints sent so far would have taken, with an interval after each.
        self._sent_until: dict[str, float] = {}
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, hints: Sequence[str]) -> bool:
        """Send hints soon; return whether that takes a task which has not begun yet."""
        for hint in hints:
            if hint not in self._due:
                self._due[hint] = self._free_at(hint)
                self._more.set()
        if self._task is not None or not self._due:
            return False
        # In a context of its own: the enqueue may belong to a job, whose context must not outlive it.
        self._task = self._loop.create_task(self._run(), name="deeper-hints", context=Context())
        return True

    def may_leave(self, hints: Sequence[str]) -> bool:
        """Return whether all of these hints may be sent now, and none waits for its time; then they count as sent."""
        now = self._loop.time()
        if any(hint in self._due or self._free_at(hint) > now for hint in hints):
            return False
        self._count_as_sent(hints, now)
        return True

    async def finish(self) -> None:
        """Send the remaining hints at once, and wait for that within a limited time."""
        self._hurry()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_FAREWELL)

    def finish_soon(self) -> None:
        """Send the remaining hints at once; from any thread."""
        with suppress(RuntimeError):  # its loop is closed, and the remaining hints are lost with it
            self._loop.call_soon_threadsafe(self._hurry)

    def _hurry(self) -> None:
        self._due = dict.fromkeys(self._due, 0.0)
        self._more.set()

    async def _run(self) -> None:
        leaving: list[str] = []
        try:
            while self._due:
                leaving = await self._wait()
                await self._send(leaving)
                leaving = []
        except asyncio.CancelledError:
            # A script's loop may end right after its enqueue: the last hints are sent before that.
            await self._send_last(leaving)
            raise
        finally:
            self._task = None

    async def _wait(self) -> list[str]:
        """Wait until the time of a hint has come; return all hints for which it has."""
        while not (ready := [hint for hint, due in self._due.items() if due <= self._loop.time()]):
            self._more.clear()
            try:
                async with asyncio.timeout_at(min(self._due.values())):
                    await self._more.wait()
            except TimeoutError:
                continue
        for hint in ready:
            del self._due[hint]
        return ready

    async def _send(self, hints: Sequence[str]) -> None:
        self._count_as_sent(hints, self._loop.time())
        try:
            await self._database.call(NOTIFY, {"channel": self._database.address.channel, "hints": text_array(hints)})
        except DeeperTasksError as error:
            _logger.debug("hints were not sent: %s", error)

    def _count_as_sent(self, hints: Sequence[str], now: float) -> None:
        until = {hint: max(self._sent_until.get(hint, now), now) + INTERVAL for hint in hints}
        self._sent_until = {hint: at for hint, at in self._sent_until.items() if at > now} | until

    def _free_at(self, hint: str) -> float:
        return self._sent_until.get(hint, 0.0) - _CREDIT

    async def _send_last(self, leaving: Sequence[str]) -> None:
        """Send the hints whose sending was interrupted, and those that still wait."""
        hints = list(dict.fromkeys([*leaving, *self._due]))
        self._due.clear()
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._send(hints)
        except TimeoutError:
            _logger.debug("hints were not sent (%d of them): the database did not answer", len(hints))
