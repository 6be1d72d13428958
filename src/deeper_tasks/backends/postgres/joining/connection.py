"""A caller's connection: what an insert needs of it, whatever library it is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from deeper_tasks.backends.postgres.codec import Row


class CallersConnection(Protocol):
    """
    The connection of an application, which may have a transaction open.

    The methods of one that blocks never suspend. Nothing here begins, commits or
    rolls back what the caller began.
    """

    is_async: ClassVar[bool]
    placeholder: ClassVar[str]
    """A parameter in a statement, by its `name` or its `number` from 1."""
    how_to_begin: ClassVar[str]
    """What a caller does that has forgotten to open a transaction."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the library raises."""

    async def enter(self) -> None:
        """Make the connection ready for statements. Raises InvalidOptionError: it can never be."""

    def has_begun(self) -> bool:
        """Whether the caller has used it in a transaction; False where the library would begin one for us."""

    def is_lost(self, error: Exception) -> bool:
        """Whether the server cannot be reached by it any more; the error is what it was noticed by."""

    async def run(self, statement: str) -> None:
        """Run a statement without parameters."""

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        """Run a statement with all of its parameters, in their order; returns its rows."""

    async def end(self) -> None:
        """Roll back the transaction that the library has begun for us."""
