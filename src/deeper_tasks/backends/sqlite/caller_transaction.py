"""The caller's transaction: an operation of the store runs inside it, on a connection of the application."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from deeper_tasks.backends.sqlite.connection_guard import GuardedConnection
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.driver_errors import translate
from deeper_tasks.errors import BackendUnavailableError, DeeperTasksError, InvalidOptionError

T = TypeVar("T")

_MESSAGES: tuple[tuple[str, type[DeeperTasksError], str], ...] = (
    (
        "SQLITE_BUSY_SNAPSHOT",
        BackendUnavailableError,
        "the transaction began with a read, and {path!r} has changed since: roll back and begin with BEGIN IMMEDIATE",
    ),
    (
        "SQLITE_BUSY",
        BackendUnavailableError,
        "{path!r} was locked for longer than the connection's timeout: roll back and try again, with BEGIN IMMEDIATE",
    ),
    (
        "SQLITE_READONLY",
        InvalidOptionError,
        "option 'connection' cannot write to {path!r}: open it without mode=ro and query_only, with the right to write",
    ),
)


def run_inside(connection: object, operation: Callable[[sqlite3.Cursor], T], *, database: Database) -> T:
    """
    Run an operation inside the open transaction of a caller's connection, in this thread.

    An error of the operation undoes its own changes and no others. Where the connection begins transactions by itself
    and none is open, one is begun.

    Raises:
        InvalidOptionError: the connection cannot be used for this, or has no transaction.
        BackendUnavailableError: the database was locked.
    """
    if not isinstance(connection, sqlite3.Connection):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}".removeprefix("builtins.")
        raise _refused(f"be of the type {kind}", "give the sqlite3.Connection of your transaction")
    with _alone(connection), _translated_errors(connection, database), own_cursor(connection) as cursor:
        _check_file(cursor, database.path)
        with _transaction(connection, cursor), _savepoint(connection, cursor):
            return operation(cursor)


@contextmanager
def _translated_errors(connection: sqlite3.Connection, database: Database) -> Iterator[None]:
    had_transaction = connection_is_open = False
    try:
        had_transaction, connection_is_open = connection.in_transaction, True
        yield
    except sqlite3.ProgrammingError as error:
        raise _unusable(error, is_open=connection_is_open) from error
    except sqlite3.Error as error:
        words = _translated(error, database)
        if had_transaction and not connection.in_transaction:
            words.args = (f"{words}; SQLite has rolled the whole transaction back, with all that was in it",)
        raise words from error


def _alone(connection: sqlite3.Connection) -> AbstractContextManager[None]:
    """Keep other threads out of the connection of a job's transaction."""
    return connection.guard if isinstance(connection, GuardedConnection) else nullcontext()


@contextmanager
def own_cursor(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """Give a cursor whose rows are tuples and whose text is `str`, whatever the caller has set for the connection."""
    with closing(sqlite3.Cursor(connection)) as cursor:
        factory = connection.text_factory
        connection.text_factory = str
        try:
            yield cursor
        finally:
            connection.text_factory = factory


def _check_file(cursor: sqlite3.Cursor, path: Path) -> None:
    (file,) = (file for _, name, file in cursor.execute("PRAGMA database_list") if name == "main")
    if not _is_same(file, path):
        where = f"belong to {file!r}" if file else "belong to a database in memory"
        raise _refused(where, f"the jobs are in {str(path)!r}, and a transaction can be of one file only")


def _is_same(file: str, path: Path) -> bool:
    try:
        return Path(file).samefile(path)
    except FileNotFoundError:
        return False


@contextmanager
def _transaction(connection: sqlite3.Connection, cursor: sqlite3.Cursor) -> Iterator[None]:
    """Begin a transaction as the caller's first INSERT would, unless one is open; after an error it is rolled back."""
    if connection.in_transaction:
        yield
        return
    # Since Python 3.12 `autocommit` may decide this, and `isolation_level` is then without effect.
    if connection.isolation_level is None or getattr(connection, "autocommit", None) is True:
        raise _refused("be one without an open transaction", "execute BEGIN IMMEDIATE first, or leave connection= out")
    cursor.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            cursor.execute("ROLLBACK")
        raise


@contextmanager
def _savepoint(connection: sqlite3.Connection, cursor: sqlite3.Cursor) -> Iterator[None]:
    cursor.execute("SAVEPOINT deeper_insert")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            cursor.execute("ROLLBACK TO deeper_insert")
            cursor.execute("RELEASE deeper_insert")
        raise
    cursor.execute("RELEASE deeper_insert")


def _translated(error: sqlite3.Error, database: Database) -> DeeperTasksError:
    name = getattr(error, "sqlite_errorname", "")
    for prefix, kind, words in _MESSAGES:
        if name.startswith(prefix):
            return kind(words.format(path=str(database.path)))
    return translate(error, database)


def _unusable(error: sqlite3.ProgrammingError, *, is_open: bool) -> InvalidOptionError:
    if "thread" in str(error):
        way_out = "enqueue in the thread that opened it, or open it with check_same_thread=False"
        return _refused("be that of another thread", way_out)
    if not is_open:
        return _refused("be closed", "give the connection that your transaction is open on")
    return _refused("be used", str(error))


def _refused(what: str, way_out: str) -> InvalidOptionError:
    return InvalidOptionError(f"option 'connection' cannot {what}: {way_out}")
