"""Through asyncpg: the caller's connection is one of asyncpg, by itself or of its pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.joining.refusals import closed


class ThroughAsyncpg:
    """An `asyncpg.Connection`. It never begins a transaction by itself."""

    is_async: ClassVar[bool] = True
    placeholder: ClassVar[str] = "${number}"
    how_to_begin: ClassVar[str] = "open 'async with connection.transaction():' around it"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        import asyncpg

        return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

    async def enter(self) -> None:
        if self._connection.is_closed():
            raise closed()

    def has_begun(self) -> bool:
        return True

    def is_lost(self, _: Exception) -> bool:
        try:
            return bool(self._connection.is_closed())
        except self.errors:
            # The connection is back in its pool, and may not be asked any more.
            return False

    async def run(self, statement: str) -> None:
        await self._connection.execute(statement)

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        return cast("list[Row]", await self._connection.fetch(statement, *values.values()))

    async def end(self) -> None:
        """Do nothing: asyncpg begins no transaction by itself."""
