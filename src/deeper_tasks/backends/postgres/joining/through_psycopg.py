"""Through psycopg: the caller's connection is one of psycopg 3, blocking or async."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.joining.refusals import closed, refused

_Given = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class ThroughPsycopg:
    """A `psycopg.Connection`. It begins a transaction by itself, unless it is in autocommit."""

    is_async: ClassVar[bool] = False
    placeholder: ClassVar[str] = "%({name})s"
    how_to_begin: ClassVar[str] = "open 'with connection.transaction():' around it, or connect without autocommit"
    errors = (psycopg.Error,)

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    async def enter(self) -> None:
        _check(self._connection)

    def has_begun(self) -> bool:
        return _has_begun(self._connection)

    def is_lost(self, _: Exception) -> bool:
        return self._connection.closed

    async def run(self, statement: str) -> None:
        # Plain cursors: the caller's factories may return other rows, or read other placeholders.
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute(statement)

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            return cast("list[Row]", cursor.execute(statement, values).fetchall())

    async def end(self) -> None:
        self._connection.rollback()


class ThroughAsyncPsycopg:
    """A `psycopg.AsyncConnection`, in the same way."""

    is_async: ClassVar[bool] = True
    placeholder: ClassVar[str] = ThroughPsycopg.placeholder
    how_to_begin: ClassVar[str] = "open 'async with connection.transaction():' around it, or connect without autocommit"
    errors = ThroughPsycopg.errors

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def enter(self) -> None:
        _check(self._connection)

    def has_begun(self) -> bool:
        return _has_begun(self._connection)

    def is_lost(self, _: Exception) -> bool:
        return self._connection.closed

    async def run(self, statement: str) -> None:
        async with psycopg.AsyncCursor(self._connection) as cursor:
            await cursor.execute(statement)

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        async with psycopg.AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
            await cursor.execute(statement, values)
            return cast("list[Row]", await cursor.fetchall())

    async def end(self) -> None:
        await self._connection.rollback()


def _check(connection: _Given) -> None:
    if connection.closed:
        raise closed()
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        # An error would undo more than the insert: everything that is still in the pipeline.
        raise refused("be in pipeline mode", "enqueue before 'connection.pipeline()' or after it")


def _has_begun(connection: _Given) -> bool:
    return connection.info.transaction_status != TransactionStatus.IDLE
