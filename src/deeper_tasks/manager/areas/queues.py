"""Queues: pause and resume them."""

from __future__ import annotations

from datetime import UTC, datetime

from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.manager.areas.area import Area, Namespace
from deeper_tasks.tasks import parse_options


class Queues(Area, Namespace):
    """The namespace `manager.queues`: what can be done with whole queues."""

    async def pause(self, name: str) -> None:
        """
        Pause a queue: no worker starts its jobs until it is resumed. Running jobs go on.

        A queue that is paused already stays paused since its first pause.
        """
        await self._set_pause(name, datetime.now(UTC))

    async def resume(self, name: str) -> None:
        """Resume a paused queue: workers start its jobs again."""
        await self._set_pause(name, None)

    async def _set_pause(self, name: str, paused_at: datetime | None) -> None:
        checked = parse_options({"queue": name}).queue
        if checked is None:
            raise InvalidOptionError("option 'queue' cannot be None: name the queue")
        await self._parts.store.ready_to_change()
        await self._parts.control.set_queue(checked, paused_at=paused_at)
