"""The announcer of a worker: emits the events that name its node and its queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deeper_tasks.integrations.events import Event, EventBus
from deeper_tasks.worker.liveness.membership import Membership


class Announcer:
    """Fills in what all events of one worker have in common. The node is the one that the worker is at that moment."""

    def __init__(self, bus: EventBus, *, membership: Membership, queues: Mapping[str, int]) -> None:
        self._bus = bus
        self._membership = membership
        self._queues = queues

    def announce(self, kind: Callable[..., Event], **fields: Any) -> None:
        """Emit an event of this kind."""
        self._bus.emit(kind(node=self._membership.node_id, queues=self._queues, **fields))
