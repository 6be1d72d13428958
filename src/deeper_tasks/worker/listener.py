"""The listener: passes the store's hints on to the parts of the worker that they concern."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.worker.store_access import StoreAccess

_logger = logging.getLogger("deeper_tasks")

_NAME = "listener"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0
"""Seconds before listening again to a store that answers. Polling goes on meanwhile."""
_DOUBLINGS = 10
_WARN_AT = 2
"""The failures in a row, of a store that answers, after which a warning is logged: more than one lost connection."""


class Listener:
    """
    Listens as long as the worker runs.

    When hints have ended, the listener asks the store whether it answers. If it does not, the listener waits like all
    other parts, and listens again as soon as the store is back. If it answers, the listener listens again at once,
    and then after growing pauses.
    """

    def __init__(
        self,
        store: StoreAccess,
        *,
        on_jobs: Callable[[str], None],
        on_control: Callable[[], None],
        on_schedules: Callable[[], None],
    ) -> None:
        self._backend = store.backend
        self._availability = store.availability
        self._clock = store.clock
        self._on_jobs = on_jobs
        self._on_control = on_control
        self._on_schedules = on_schedules
        self._failures = 0

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            reason = await self._listen()
            self._failures += 1
            await self._until_the_store_answers()
            if reason is not None and self._failures == _WARN_AT:
                _logger.warning(
                    "the listener receives no hints: %s; the worker polls, and the listener tries again", reason
                )
            await self._clock.sleep(self._pause(), until=asyncio.Event())

    async def _listen(self) -> str | None:
        """Take hints until they end; return the store's reason, if it gives one."""
        try:
            async for notification in self._backend.listen():
                self._note_hint()
                self._dispatch(notification)
        except Exception as error:  # noqa: BLE001 - after any error the store is polled meanwhile
            _logger.debug("listening ended: %s", error)
            return str(error)
        return None

    async def _until_the_store_answers(self) -> None:
        awake = asyncio.Event()
        while True:
            awake.clear()
            try:
                await self._backend.queues()
            except BackendUnavailableError as error:
                self._failures = 1
                self._availability.mark_failing(error, by=_NAME)
                await self._availability.pause(self._clock.sleep, until=awake)
            except Exception:  # noqa: BLE001 - any other error is an answer
                return
            else:
                self._availability.mark_working(by=_NAME)
                return

    def _pause(self) -> float:
        if self._failures == 1:
            return 0.0
        longest = min(_SHORTEST_PAUSE * 2.0 ** min(self._failures, _DOUBLINGS), _LONGEST_PAUSE)
        return longest * (1 - self._clock.random() / 2)

    def _note_hint(self) -> None:
        if self._failures >= _WARN_AT:
            _logger.info("the listener receives hints again")
        self._failures = 0
        self._availability.mark_working(by=_NAME)

    def _dispatch(self, notification: Notification) -> None:
        match notification.topic:
            case Topic.JOBS:
                self._on_jobs(notification.subject)
            case Topic.CONTROL:
                self._on_control()
            case Topic.SCHEDULES:
                self._on_schedules()
