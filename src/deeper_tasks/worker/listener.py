"""The listener: brings the store's hints to the parts of the worker that they concern."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from deeper_tasks.backends.protocol import Backend, Notification, Topic
from deeper_tasks.errors import BackendError
from deeper_tasks.worker.clock import Clock

_logger = logging.getLogger("deeper_tasks")

_PAUSE = 1.0
"""Seconds before listening again after the hints ended: polling goes on meanwhile."""


class Listener:
    """Listens as long as the worker runs; a store that is deaf for a while is listened to again."""

    def __init__(
        self,
        *,
        backend: Backend,
        clock: Clock,
        on_jobs: Callable[[str], None],
        on_control: Callable[[], None],
        on_schedules: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._on_jobs = on_jobs
        self._on_control = on_control
        self._on_schedules = on_schedules

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                async for notification in self._backend.listen():
                    self._dispatch(notification)
            except (BackendError, OSError) as error:
                _logger.debug("listening ended: %s", error)
            await self._clock.sleep(_PAUSE, until=asyncio.Event())

    def _dispatch(self, notification: Notification) -> None:
        match notification.topic:
            case Topic.JOBS:
                self._on_jobs(notification.subject)
            case Topic.CONTROL:
                self._on_control()
            case Topic.SCHEDULES:
                self._on_schedules()
