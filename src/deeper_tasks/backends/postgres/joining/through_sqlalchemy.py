"""
Through SQLAlchemy: the caller has a Session or a Connection of it, blocking or async, over any driver.

Every statement goes through SQLAlchemy's own `execute`. The driver's connection below may not be in a transaction yet:
with asyncpg it is only after SQLAlchemy's first statement, and a job inserted before that would survive the rollback.

The savepoint is plain SQL: `begin_nested` of a Session would flush the caller's pending objects, and on a rollback
expire the objects that the caller holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.joining.refusals import closed, refused

_HOW_TO_BEGIN = "leave the isolation level AUTOCOMMIT for this transaction"
_NO_STREAM = {"stream_results": False, "yield_per": None}
"""Overrides the options of the caller's connection: a savepoint cannot be streamed."""


class ThroughSQLAlchemy:
    """A `Session`, `scoped_session` or `Connection`. It begins a transaction by itself."""

    is_async: ClassVar[bool] = False
    placeholder: ClassVar[str] = ":{name}"
    how_to_begin: ClassVar[str] = _HOW_TO_BEGIN

    def __init__(self, given: Any, *, is_session: bool) -> None:
        self._given = given
        self._connection: Any = None if is_session else given

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return _errors()

    async def enter(self) -> None:
        if self._connection is None:
            self._connection = self._given.connection()
        _check(self._connection)

    def has_begun(self) -> bool:
        return bool(self._given.in_transaction())

    def is_lost(self, error: Exception) -> bool:
        return _is_lost(self._connection, error)

    async def run(self, statement: str) -> None:
        self._connection.execute(_text(statement), execution_options=_NO_STREAM)

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        return cast("list[Row]", self._connection.execute(_text(statement), values, execution_options=_NO_STREAM).all())

    async def end(self) -> None:
        self._given.rollback()


class ThroughAsyncSQLAlchemy:
    """An `AsyncSession`, `async_scoped_session` or `AsyncConnection`, in the same way."""

    is_async: ClassVar[bool] = True
    placeholder: ClassVar[str] = ThroughSQLAlchemy.placeholder
    how_to_begin: ClassVar[str] = _HOW_TO_BEGIN

    def __init__(self, given: Any, *, is_session: bool) -> None:
        self._given = given
        self._connection: Any = None if is_session else given

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return _errors()

    async def enter(self) -> None:
        if self._connection is None:
            self._connection = await self._given.connection()
        _check(self._connection)

    def has_begun(self) -> bool:
        return bool(self._given.in_transaction())

    def is_lost(self, error: Exception) -> bool:
        return _is_lost(self._connection, error)

    async def run(self, statement: str) -> None:
        await self._connection.execute(_text(statement), execution_options=_NO_STREAM)

    async def rows(self, statement: str, values: Mapping[str, str | None]) -> list[Row]:
        result = await self._connection.execute(_text(statement), values, execution_options=_NO_STREAM)
        return cast("list[Row]", result.all())

    async def end(self) -> None:
        await self._given.rollback()


def _errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    # SQLAlchemy does not wrap asyncpg's failures to connect.
    return (SQLAlchemyError, OSError)


def _text(statement: str) -> Any:
    from sqlalchemy import text

    return text(statement)


def _check(connection: Any) -> None:
    if connection.closed:
        raise closed()
    if connection.dialect.name != "postgresql":
        raise refused(f"be one to {connection.dialect.name}", "the jobs are in PostgreSQL: give one to their database")


def _is_lost(connection: Any, error: Exception) -> bool:
    from sqlalchemy.exc import DBAPIError

    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or connection is None or bool(connection.invalidated)
    )
