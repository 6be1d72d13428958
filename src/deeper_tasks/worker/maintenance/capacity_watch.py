"""The capacity watch: has one worker of the fleet warn of queues that come near their capacity."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

from deeper_tasks.backends.protocol import Counts, NodeRecord
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events import EventBus, QueueNearCapacity
from deeper_tasks.worker.liveness.host import is_alive

_NEAR, _EASED = 0.8, 0.7
"""The share of the capacity from which a queue is near it, and the share it must fall to before it counts anew."""
_BEATS = 2
"""The number of beats after which a worker has looked at the queues itself."""


class CapacityWatch:
    """
    Announces once that a queue comes near its capacity, and again after the queue has fallen.

    All workers look at the queues, and of those with the same capacity the oldest living one announces. The others
    take that as done when that worker has beaten twice since; if it dies before, the next oldest one announces.
    """

    def __init__(self, *, capacity: int, lease: timedelta, node_id: Callable[[], NodeId | None], bus: EventBus) -> None:
        self._capacity = capacity
        self._lease = lease
        self._node_id = node_id
        self._bus = bus
        self._near: set[str] = set()
        self._unannounced: dict[str, tuple[NodeId, int] | None] = {}
        """The queues still to be announced, each with the worker that should do it, and that worker's beat then."""

    def look(self, counts: Counts) -> None:
        """Look at the pending jobs of all queues."""
        pending = {name: queue.by_state.get(State.PENDING, 0) for name, queue in counts.queues.items()}
        eased = {name for name in self._near if pending.get(name, 0) <= math.floor(_EASED * self._capacity)}
        self._near -= eased
        for name in eased & self._unannounced.keys():
            del self._unannounced[name]
        for name, count in pending.items():
            if count >= math.ceil(_NEAR * self._capacity) and name not in self._near:
                self._near.add(name)
                self._unannounced[name] = None
        if self._unannounced:
            self._announce(pending, self._speaker(counts))

    def _announce(self, pending: dict[str, int], speaker: NodeRecord | None) -> None:
        for name, deferred in sorted(self._unannounced.items()):
            if speaker is None or speaker.node.id == self._node_id():
                del self._unannounced[name]
                self._bus.emit(QueueNearCapacity(queue=name, pending=pending.get(name, 0), capacity=self._capacity))
            elif deferred is None or deferred[0] != speaker.node.id:
                self._unannounced[name] = (speaker.node.id, speaker.beat)
            elif speaker.beat >= deferred[1] + _BEATS:
                del self._unannounced[name]

    def _speaker(self, counts: Counts) -> NodeRecord | None:
        fleet = [
            record
            for record in counts.nodes
            if record.node.queue_capacity == self._capacity and is_alive(record, now=counts.now, lease=self._lease)
        ]
        return min(fleet, key=lambda record: (record.registered_at, record.node.id), default=None)
