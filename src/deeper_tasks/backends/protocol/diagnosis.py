"""Diagnosis: the optional role of a store that can find out what is wrong with the place it lives in."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from deeper_tasks.domain.finding import Finding

BROKEN_OFF = "database"
"""The check whose finding says why a store could not be examined to the end."""

NOT_EXAMINED = "examination"
"""The check whose finding says that the store's user has no right to examine it; it does not count as an error."""
RIGHTS = "rights"
"""The check whose findings say which rights the store's user has, and which it lacks for its use."""


@runtime_checkable
class Diagnosable(Protocol):
    """A store that can examine its file, its server, its connection."""

    async def diagnose(self, *, deep: bool = False) -> list[Finding]:
        """
        Examine the place the store lives in, good findings and bad; changes and makes nothing.

        The store need not be open: `deeper doctor` asks this also when it cannot be opened. A
        part that cannot be reached is a finding of the check `BROKEN_OFF`, not an error. `deep` reads all of the store.
        """
