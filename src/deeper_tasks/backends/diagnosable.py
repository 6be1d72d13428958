"""Diagnosable: what a store may do beside the protocol, to tell what is wrong with the place it lives in."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from deeper_tasks.domain.finding import Finding

BROKEN_OFF = "database"
"""The check whose finding says why a store could not be examined to the end."""

NOT_EXAMINED = "examination"
"""The check whose finding says that the user of a store may not look at what goes on in it: no error, and no more."""
RIGHTS = "rights"
"""The check whose findings say what the user of a store may do, and what it lacks for what it is meant to do."""


@runtime_checkable
class Diagnosable(Protocol):
    """A store that can examine its file, its server, its connection."""

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        """
        Examine the place the store lives in, good findings and bad; changes and makes nothing.

        The store need not be open: this is asked when it cannot be opened too, so
        what cannot be reached is a finding, of the check `BROKEN_OFF`, and no error. `deep` reads all of it.
        """
