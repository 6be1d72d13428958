"""The listener: brings the store's hints to the parts of the worker that they concern."""

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
"""Seconds before listening again in a store that answers: polling goes on meanwhile."""
_DOUBLINGS = 10
_TOLD_AT = 2
"""Failures in a row, in a store that answers, that are worth a warning: a lost connection alone is not."""


class Listener:
    """
    Listens as long as the worker runs.

    A store whose hints have ended is asked whether it answers. As long as it does not, this is a part of the worker
    that waits for it like all others, and listens again as soon as it is back. Where it answers and its hints are not
    heard, it is listened to again at once, and then after growing pauses.
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
            if reason is not None and self._failures == _TOLD_AT:
                _logger.warning("hints are not heard: %s; polling goes on, and the next try follows", reason)
            await self._clock.sleep(self._pause(), until=asyncio.Event())

    async def _listen(self) -> str | None:
        """Hear hints until they end; returns why they did, if the store says it."""
        try:
            async for notification in self._backend.listen():
                self._note_hint()
                self._dispatch(notification)
        except Exception as error:  # noqa: BLE001 - whatever the store fails with, it is polled meanwhile
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
            except Exception:  # noqa: BLE001 - it is an answer
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
        if self._failures >= _TOLD_AT:
            _logger.info("hints are heard again")
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
