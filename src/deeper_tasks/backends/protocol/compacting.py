"""Compacting: the optional role of a store whose space does not come back by itself."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Compacting(Protocol):
    """A store that can give unused space back."""

    async def compact(self) -> int:
        """Give all unused space back to the machine; return the bytes. Nothing is written meanwhile."""
