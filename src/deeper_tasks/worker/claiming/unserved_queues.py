"""The unserved queues of a worker's own tasks: no worker serves them, and their jobs would wait forever."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import chain

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.queue_patterns import ServedQueues
from deeper_tasks.tasks import TaskRegistry
from deeper_tasks.worker.liveness.host import is_alive


def queues_of_tasks(registry: TaskRegistry, *, default_queue: str) -> dict[str, list[str]]:
    """Return the names of the tasks that are registered, by the queue that each is enqueued to by itself."""
    queues: dict[str, list[str]] = {}
    for task in registry:
        queues.setdefault(task.request.queue or default_queue, []).append(task.name)
    return queues


async def served_by_living(backend: Backend, *, lease: timedelta) -> ServedQueues:
    """Return what the living workers that the store knows serve together."""
    counts = await backend.statistics()
    living = (record.node for record in counts.nodes if is_alive(record, now=counts.now, lease=lease))
    return ServedQueues(chain.from_iterable(node.queues for node in living))


def unserved(queues: Iterable[str], *, served: ServedQueues) -> list[str]:
    """Return those of the queues that no entry serves, sorted."""
    return sorted(queue for queue in queues if queue not in served)
