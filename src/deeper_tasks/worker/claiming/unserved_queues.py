"""The unserved queues of a worker's own tasks: no worker serves them, and their jobs would wait forever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import chain

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.queue_patterns import ServedQueues
from deeper_tasks.errors import BackendError
from deeper_tasks.integrations.events import QueuesUnserved
from deeper_tasks.tasks import TaskRegistry
from deeper_tasks.worker.announcer import Announcer
from deeper_tasks.worker.liveness.host import is_alive
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.store_access import StoreAccess


class UnservedQueues:
    """Announces once, soon after a worker's start, which queues of its tasks neither it nor another worker serves."""

    def __init__(
        self, store: StoreAccess, settings: WorkerSettings, *, registry: TaskRegistry, announcer: Announcer
    ) -> None:
        self._store = store
        self._settings = settings
        self._registry = registry
        self._announcer = announcer

    async def announce(self) -> None:
        """Wait a poll interval, so that workers that start together know of each other, and announce."""
        tasks = _queues_of(self._registry, default_queue=self._settings.default_queue)
        queues = _unserved(tasks, served=ServedQueues(self._settings.queues))
        if not queues or not self._store.backend.capabilities.runs_jobs:
            return
        queues = _unserved(queues, served=await self._served_by_living())
        if queues:
            self._announcer.announce(QueuesUnserved, unserved={queue: tuple(sorted(tasks[queue])) for queue in queues})

    async def _served_by_living(self) -> ServedQueues:
        store = self._store
        while True:
            await store.clock.sleep(self._settings.poll_interval.total_seconds(), until=asyncio.Event())
            if store.availability.is_away:
                continue
            with suppress(BackendError):
                return await _served_by_living(store.backend, lease=self._settings.lease)


def _queues_of(registry: TaskRegistry, *, default_queue: str) -> dict[str, list[str]]:
    """Return the names of the tasks that are registered, by the queue that each is enqueued to by itself."""
    queues: dict[str, list[str]] = {}
    for task in registry:
        queues.setdefault(task.request.queue or default_queue, []).append(task.name)
    return queues


async def _served_by_living(backend: Backend, *, lease: timedelta) -> ServedQueues:
    """Return what the living workers that the store knows serve together."""
    counts = await backend.statistics()
    living = (record.node for record in counts.nodes if is_alive(record, now=counts.now, lease=lease))
    return ServedQueues(chain.from_iterable(node.queues for node in living))


def _unserved(queues: Iterable[str], *, served: ServedQueues) -> list[str]:
    """Return those of the queues that no entry serves, sorted."""
    return sorted(queue for queue in queues if queue not in served)
