"""Folding: the optional role of a store whose counters lag behind the rows that are appended to them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Folding(Protocol):
    """A store that folds its counters now and then."""

    async def fold(self) -> bool:
        """Add one batch of the appended rows to the counters; return whether there is more. No count needs it."""
