"""The guarded connection: the connection of a job's transaction, with which a handler can do all but end it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self
from weakref import WeakSet

from deeper_tasks.errors import TransactionError

_MARK = "deeper_job"
"""The savepoint that shows, at the end, that the transaction is still the one that was begun."""
_BETWEEN_INTERRUPTS = 0.01
_PATIENCE = 0.1
_COMMITTING = frozenset({"isolation_level", "autocommit"})


class Guard:
    """
    A lock on a connection: one thread at a time may use it, and none once it is shut.

    Several threads may use SQLite in turn, but a thread that closes a connection during a statement of another
    brings the process down.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._is_begun = self._is_closed = False
        self._denied: str | None = None
        self._shut_because: str | None = None
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self.user: int | None = None
        """The thread that used the connection last."""

    def __enter__(self) -> None:
        self._lock.acquire()
        self.user, self._denied = threading.get_ident(), None
        if self._shut_because is not None:
            reason = self._shut_because
        elif self._is_begun and not self._connection.in_transaction:
            reason = "SQLite has rolled the job's transaction back at an error: let that error end the task"
        else:
            return
        self._lock.release()
        raise TransactionError(reason)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        denied, self._denied = self._denied, None
        self._lock.release()
        if denied is not None and isinstance(error, sqlite3.DatabaseError):
            raise refused_end(denied) from error

    def watch(self, cursor: sqlite3.Cursor) -> None:
        """Close a cursor at the end of the transaction."""
        self._cursors.add(cursor)

    def begin(self) -> None:
        """Begin the transaction; from now on no statement through the connection can end it."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(f"SAVEPOINT {_MARK}")
        self._connection.set_authorizer(self._authorize)
        self._is_begun = True

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all other threads out, for good, to end the transaction inside."""
        self._shut_because = self._shut_because or "the job's transaction is over"
        while not self._lock.acquire(timeout=_BETWEEN_INTERRUPTS):
            self._connection.interrupt()
        try:
            self._is_begun = False
            # An interruption lasts as long as a search is open: it would break off the end of the transaction too.
            for cursor in tuple(self._cursors):
                cursor.close()
            yield
        finally:
            self._lock.release()

    def check_mark(self) -> None:
        """Raise TransactionError if the transaction is not the one that was begun."""
        with closing(sqlite3.Cursor(self._connection)) as cursor:
            try:
                cursor.execute(f"RELEASE {_MARK}")
            except sqlite3.OperationalError as error:
                raise TransactionError(
                    "the job's transaction ended before its task returned: its writes are committed or lost, and the "
                    "job is not completed; leave the end of the transaction to the worker"
                ) from error

    def shut(self, reason: str) -> None:
        """Roll back, unless committed, and close, however long a statement would still run."""
        if self._is_closed:
            return
        self._shut_because = self._shut_because or reason
        with self.alone():
            self._is_closed = True
            try:
                if self._connection.in_transaction:
                    self._roll_back()
            finally:
                sqlite3.Connection.close(self._connection)

    def _roll_back(self) -> None:
        # A handler that made a cursor by `sqlite3.Cursor(connection)` uses the connection without the lock.
        impatience = threading.Timer(_PATIENCE, self._connection.interrupt)
        impatience.start()
        try:
            with closing(sqlite3.Cursor(self._connection)) as cursor:
                cursor.execute("ROLLBACK")
        finally:
            impatience.cancel()
            impatience.join()

    def _authorize(self, action: int, first: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_TRANSACTION and self._is_begun:
            self._denied = first or "this"
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


class GuardedCursor(sqlite3.Cursor):
    """A cursor of a guarded connection."""

    connection: GuardedConnection

    def execute(self, statement: str, parameters: Any = (), /) -> Self:
        """As in `sqlite3`; a statement that would end the transaction raises TransactionError."""
        with self.connection.guard:
            return super().execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> Self:
        """As `execute`."""
        with self.connection.guard:
            return super().executemany(statement, parameters)

    def executescript(self, script: str, /) -> NoReturn:  # noqa: ARG002 - no script may run
        """Raise TransactionError: `sqlite3` commits before a script."""
        raise refused_end("executescript()", way_out="execute its statements one by one")

    def fetchone(self) -> Any:
        """As in `sqlite3`."""
        with self.connection.guard:
            return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """As in `sqlite3`."""
        with self.connection.guard:
            return super().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[Any]:
        """As in `sqlite3`."""
        with self.connection.guard:
            return super().fetchall()

    def __next__(self) -> Any:
        with self.connection.guard:
            return super().__next__()


class GuardedConnection(sqlite3.Connection):
    """A connection whose transaction only its guard ends."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guard = Guard(self)

    def __enter__(self) -> NoReturn:
        raise refused_end("'with connection:'", way_out="leave it out")

    def __setattr__(self, name: str, value: object) -> None:
        if name in _COMMITTING:
            raise refused_end(f"setting {name}")
        super().__setattr__(name, value)

    def cursor(self, factory: Any = GuardedCursor) -> Any:
        """As in `sqlite3`."""
        with self.guard:
            cursor = super().cursor(factory)
            self.guard.watch(cursor)
            return cursor

    def execute(self, statement: str, parameters: Any = (), /) -> Any:
        """As in `sqlite3`; a statement that would end the transaction raises TransactionError."""
        return self.cursor().execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> Any:
        """As `execute`."""
        return self.cursor().executemany(statement, parameters)

    def executescript(self, script: str, /) -> Any:
        """Raise TransactionError: `sqlite3` commits before a script."""
        return self.cursor().executescript(script)

    def commit(self) -> NoReturn:
        """Raise TransactionError."""
        raise refused_end("commit()")

    def rollback(self) -> NoReturn:
        """Raise TransactionError."""
        raise refused_end("rollback()")

    def close(self) -> NoReturn:
        """Raise TransactionError."""
        raise refused_end("close()")


def refused_end(what: str, *, way_out: str = "leave that to the worker") -> TransactionError:
    """Return the error about a call that would end the transaction."""
    return TransactionError(
        f"a task cannot end its job's transaction by {what}: it commits when the task returns and rolls back when it "
        f"raises; {way_out}, and for a part that may fail use SAVEPOINT"
    )
