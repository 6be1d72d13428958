"""Diagnosable: what a store may do beside the protocol, to tell what is wrong with the place it lives in."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from deeper_tasks.domain.finding import Finding


@runtime_checkable
class Diagnosable(Protocol):
    """A store that can examine its file, its server, its connection."""

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        """
        Examine the place the store lives in, good findings and bad; changes and makes nothing.

        The store need not be open: this is asked when it cannot be opened too, so
        what cannot be reached is a finding and no error. `deep` reads all of it.
        """
