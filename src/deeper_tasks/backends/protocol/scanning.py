"""Scanning: the optional role of a store that can be read whole, whatever its counters say."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job


@runtime_checkable
class Scanning(Protocol):
    """A store that can be read job by job, as its table has them."""

    async def walk(self, *, after: JobId | None, limit: int) -> list[Job]:
        """Return up to `limit` jobs in the order of their ids: the first of all, or those that come after one."""
