"""Announcing: the optional role of a store that does not see when a caller's transaction commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from deeper_tasks.domain.job import NewJob


@runtime_checkable
class Announcing(Protocol):
    """A store that needs to hear that jobs inserted through a caller's connection are committed."""

    async def announce(self, jobs: Sequence[NewJob]) -> None:
        """Send the hints of new jobs that a caller's transaction has committed. Never raises, never waits."""
