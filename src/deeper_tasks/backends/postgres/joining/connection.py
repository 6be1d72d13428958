"""A caller's connection: the operations that an insert needs, for the connections of all libraries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from deeper_tasks.backends.postgres.codec import Row


class CallersConnection(Protocol):
    """
    The connection of an application, which may have a transaction open.

    The methods of a blocking connection never suspend. Nothing here begins, commits or rolls back a transaction of the
    caller.
    """

    is_async: ClassVar[bool]
    placeholder: ClassVar[str]
    """The placeholder of a parameter in a statement, by its `name` or its `number` from 1."""
    how_to_begin: ClassVar[str]
    """Instructions for a caller without an open transaction."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The exceptions that the library raises."""

    async def enter(self) -> None:
        """Make the connection ready for statements. Raises InvalidOptionError if that is not possible."""

    def has_begun(self) -> bool:
        """Return whether the caller has a transaction open; False if the library would begin one now."""

    def is_lost(self, error: Exception) -> bool:
        """Return whether the connection is lost; `error` is the error that showed it."""

    async def run(self, statement: str) -> None:
        """Run a statement without parameters."""

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        """Run a statement with all of its parameters, in their order; return its rows."""

    async def end(self) -> None:
        """Roll back the transaction that the library began for the insert."""
