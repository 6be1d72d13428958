"""The events of queues."""

from __future__ import annotations

from deeper_tasks.integrations.events.event import Event


class QueueNearCapacity(Event, frozen=True, kw_only=True):
    """
    The pending jobs of a queue have reached 80 % of the setting `queue_capacity`.

    One worker of the fleet reports it, and reports it again only after the number has fallen to 70 %.
    """

    queue: str
    pending: int
    capacity: int


class QueuePaused(Event, frozen=True, kw_only=True):
    """A queue was paused: no worker starts its jobs until it is resumed."""

    queue: str


class QueueResumed(Event, frozen=True, kw_only=True):
    """A queue was resumed: workers start its jobs again."""

    queue: str
