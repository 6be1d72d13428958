"""The guarded connection: the handler's access to its job's transaction, in which it may do everything but end it."""

from __future__ import annotations

import re
from typing import Any, NoReturn, Self

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor, sql
from psycopg.abc import RV, PQGen, Query
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from deeper_tasks.errors import TransactionError

_Rows = tuple[Any, ...]

_FIRST_WORDS = re.compile(
    r"(?:\s|;|--[^\n]*|/\*.*?\*/)*(\w+)(?:\s+(?:work|transaction))?(?:\s+(\w+))?", re.DOTALL | re.IGNORECASE
)
_ENDS = frozenset({"abort", "commit", "end", "rollback"})
_OVER = "the job's transaction is over"


class Guard:
    """The check of each use of a guarded connection, of either kind, until it is shut."""

    def __init__(self, pgconn: PGconn) -> None:
        self._pgconn = pgconn
        self._shut_because: str | None = None
        self.ended: TransactionError | None = None
        """Set when the handler ended the transaction itself."""

    def check(self) -> None:
        """Raise if the connection is shut or its transaction has ended."""
        if self._shut_because is not None:
            raise TransactionError(self._shut_because)
        if self.ended is not None:
            raise self.ended

    def note_end(self) -> None:
        """Note whether a statement has ended the transaction, for example in a function or after a semicolon."""
        if self.ended is None and self._pgconn.transaction_status == TransactionStatus.IDLE:
            self.ended = ended_before()

    def shut(self, reason: str = _OVER) -> None:
        """Refuse every later use. A statement that is under way goes on."""
        self._shut_because = self._shut_because or reason


class GuardedCursor(Cursor[_Rows]):
    """A cursor of a guarded connection."""

    def execute(self, query: Query, params: Any = None, **options: Any) -> Self:
        """As in `psycopg`; a statement that would end the transaction raises TransactionError."""
        refuse_end(query)
        return super().execute(query, params, **options)  # type: ignore[arg-type] # one of its overloads


class GuardedAsyncCursor(AsyncCursor[_Rows]):
    """A cursor of a guarded connection of the async kind."""

    async def execute(self, query: Query, params: Any = None, **options: Any) -> Self:
        """As in `psycopg`; a statement that would end the transaction raises TransactionError."""
        refuse_end(query)
        return await super().execute(query, params, **options)  # type: ignore[arg-type] # one of its overloads


class GuardedConnection(Connection[_Rows]):
    """A connection, for a thread, whose transaction is the worker's to end."""

    def __init__(self, pgconn: PGconn, *arguments: Any, **options: Any) -> None:
        super().__init__(pgconn, *arguments, **options)
        self.guard = Guard(pgconn)
        self.cursor_factory = GuardedCursor

    def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        """As in `psycopg`. Everything that is sent to the server passes here."""
        self.guard.check()
        try:
            return super().wait(gen, *arguments, **options)
        finally:
            self.guard.note_end()

    def __enter__(self) -> NoReturn:
        raise not_yours("'with connection:'", way_out="leave it out")

    def commit(self) -> NoReturn:
        """Raise TransactionError."""
        raise not_yours("commit()")

    def rollback(self) -> NoReturn:
        """Raise TransactionError."""
        raise not_yours("rollback()")

    def close(self) -> NoReturn:
        """Raise TransactionError."""
        raise not_yours("close()")

    def set_autocommit(self, value: bool) -> NoReturn:  # noqa: ARG002, FBT001 - as it is called
        """Raise TransactionError."""
        raise not_yours("setting autocommit")


class GuardedAsyncConnection(AsyncConnection[_Rows]):
    """A connection, for the event loop, whose transaction is the worker's to end."""

    def __init__(self, pgconn: PGconn, *arguments: Any, **options: Any) -> None:
        super().__init__(pgconn, *arguments, **options)
        self.guard = Guard(pgconn)
        self.cursor_factory = GuardedAsyncCursor

    async def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        """As in `psycopg`. Everything that is sent to the server passes here."""
        self.guard.check()
        try:
            return await super().wait(gen, *arguments, **options)
        finally:
            self.guard.note_end()

    async def __aenter__(self) -> NoReturn:
        raise not_yours("'async with connection:'", way_out="leave it out")

    async def commit(self) -> NoReturn:
        """Raise TransactionError."""
        raise not_yours("commit()")

    async def rollback(self) -> NoReturn:
        """Raise TransactionError."""
        raise not_yours("rollback()")

    async def close(self) -> NoReturn:
        """Raise TransactionError."""
        raise not_yours("close()")

    async def set_autocommit(self, value: bool) -> NoReturn:  # noqa: ARG002, FBT001 - as it is called
        """Raise TransactionError."""
        raise not_yours("setting autocommit")


Guarded = GuardedConnection | GuardedAsyncConnection


def is_in_use(connection: Guarded) -> bool:
    """Return whether a statement, a COPY or a stream of rows is under way on the connection, or a pipeline is open."""
    pgconn = connection.pgconn
    return (
        connection.lock.locked()
        or pgconn.transaction_status == TransactionStatus.ACTIVE
        or (pgconn.status == psycopg.pq.ConnStatus.OK and pgconn.pipeline_status != PipelineStatus.OFF)
    )


def refuse_end(query: Query) -> None:
    """
    Refuse a statement that says by its first word that it ends the transaction.

    Raises:
        TransactionError: the statement ends the transaction.
    """
    found = _FIRST_WORDS.match(_text(query))
    if found is None:
        return
    first, second = found[1].lower(), (found[2] or "").lower()
    if first in _ENDS and not (first == "rollback" and second == "to"):
        raise not_yours(first.upper())


def _text(query: Query) -> str:
    if isinstance(query, bytes):
        return query.decode(errors="replace")
    if isinstance(query, sql.Composable):
        return query.as_string()
    # Only templates are left, which hold their text in pieces.
    return query if isinstance(query, str) else str(getattr(query, "strings", ("",))[0])


def ended_before() -> TransactionError:
    """Return the error for a transaction that had ended, or was replaced by another, before it was to be completed."""
    return TransactionError(
        "the job's transaction ended before its task returned: its writes are committed or lost, and the "
        "job is not completed; leave the end of the transaction to the worker"
    )


def not_yours(call: str, *, way_out: str = "leave that to the worker") -> TransactionError:
    """Return the error for a call that would end the transaction."""
    return TransactionError(
        f"a task cannot end its job's transaction by {call}: it commits when the task returns and rolls back when it "
        f"raises; {way_out}, and for a part that may fail use 'with connection.transaction():', which sets a savepoint"
    )
