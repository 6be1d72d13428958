"""Lifecycle: the role of being opened, closed and brought up to date."""

from __future__ import annotations

from typing import Protocol

from deeper_tasks.backends.protocol.capabilities import Capabilities


class Lifecycle(Protocol):
    """A store that can be opened and closed."""

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of the store; they do not change while it is open."""

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:
        """
        Make the store ready; a second call does nothing.

        An empty store is migrated at once, unless `create` is False: a caller that only
        looks must not make a store of a mistyped name. A store that lacks later
        migrations is left alone.

        `will_join` announces an `insert` with a caller's connection. The caller's transaction may
        hold up all other writers, so a store whose writers wait for one another writes nothing here, and
        never suspends: what is missing is made by that insert, inside the transaction.

        Returns:
            Whether this call made the store, which is new and empty.

        Raises:
            BackendUnavailableError: it cannot be reached, or is not there.
            SchemaError: it is not a store of this library, needs `migrate`, or is newer than this code.
        """

    async def close(self) -> None:
        """Give back threads, files and connections. Calls still under way end first."""

    async def migrate(self) -> tuple[str, ...]:
        """Bring the schema up to date; return the names of the migrations applied, in order."""
