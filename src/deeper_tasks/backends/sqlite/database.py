"""The database file: its connections, and SQLite's errors in our words."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from deeper_tasks.backends import reading
from deeper_tasks.backends.sqlite.guard import GuardedConnection
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendError, BackendUnavailableError, SchemaError, UnsupportedError

_PRIVATE = 0o660

C = TypeVar("C", bound=sqlite3.Connection)

UNREADABLE = (*reading.UNREADABLE, sqlite3.OperationalError)
"""The errors that a statement over many rows, or the reading of its answer, raises because of a damaged row."""

OLDEST_SQLITE = (3, 37, 0)

_MOST_LOG_KEPT = 16 * 1024 * 1024
"""Bytes that the write-ahead log keeps on disk once a checkpoint has emptied it, however long it once was."""

_WORDS: tuple[tuple[str, type[BackendError], str], ...] = (
    ("SQLITE_NOTADB", SchemaError, "{path!r} is not an SQLite database; name another file"),
    ("SQLITE_CORRUPT", SchemaError, "the database {path!r} is damaged ({error}); restore it from a copy"),
    ("SQLITE_FULL", BackendUnavailableError, "the disk is full: nothing was written to {path!r}"),
    ("SQLITE_READONLY", BackendUnavailableError, "the database {path!r} or its folder is read-only"),
    ("SQLITE_CANTOPEN", BackendUnavailableError, "the database {path!r} cannot be opened: {error}"),
    (
        "SQLITE_BUSY",
        BackendUnavailableError,
        (
            "the database {path!r} was locked for longer than {timeout}, by a transaction of another connection; "
            "if it is this program's own, end it first, or enqueue inside it with connection="
        ),
    ),
)


class Statements(Protocol):
    """What an operation needs of a connection: a cursor, such as one of the caller's, has it too."""

    def execute(self, statement: str, parameters: Any = ..., /) -> sqlite3.Cursor:
        """Execute one statement."""

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement that returns nothing, once for each of the parameters."""


class Synchronous(StrEnum):
    """
    How a commit reaches the disk.

    FULL: what was committed survives a power cut. NORMAL: it survives a crash of
    the process, but the last commits before a power cut may be lost.
    """

    FULL = "full"
    NORMAL = "normal"


class Database(Struct, frozen=True, kw_only=True):
    """
    Where the database lies and how it is opened.

    `timeout`: seconds that a write waits for other writers. `has_foreign_keys`:
    whether those of the application's tables are enforced in the transactions
    of jobs, where it is too late for its own pragma.
    """

    path: Path
    synchronous: Synchronous = Synchronous.FULL
    timeout: float = 10.0
    has_foreign_keys: bool = False

    def is_there(self) -> bool:
        """
        Whether the file is there.

        Raises:
            BackendUnavailableError: it cannot be looked for, as with a name that is too long.
        """
        return self._asked(self.path.exists)

    def check_folder(self) -> None:
        """Refuse, with BackendUnavailableError, a path in a folder that does not exist: SQLite's words are vague."""
        if not self._asked(self.path.parent.is_dir):
            raise BackendUnavailableError(f"the folder {str(self.path.parent)!r} of the database does not exist")

    def _asked(self, question: Callable[[], bool]) -> bool:
        try:
            return question()
        except OSError as error:
            raise BackendUnavailableError(
                f"the database {str(self.path)!r} cannot be opened: {error.strerror}"
            ) from error

    def identify(self) -> tuple[int, int] | None:
        """Return what tells this file from another that takes its name; None: there is none."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def connect_to_write(self) -> sqlite3.Connection:
        """Open the one connection of this process that writes, and checkpoints."""
        connection = self._connect(
            # First: it counts for a file that is still empty, and is passed over for another.
            "auto_vacuum = INCREMENTAL",
            "journal_mode = WAL",
            f"journal_size_limit = {_MOST_LOG_KEPT}",
            f"synchronous = {self.synchronous.name}",
            "cache_size = -32000",
            factory=sqlite3.Connection,
        )
        connection.row_factory = sqlite3.Row
        connection.text_factory = to_text
        return connection

    def connect_to_read(self) -> sqlite3.Connection:
        """Open a connection that never writes and never checkpoints, to a file that is there: it makes none."""
        self._check_file()
        connection = self._connect("query_only = ON", factory=sqlite3.Connection)
        connection.row_factory = sqlite3.Row
        connection.text_factory = to_text
        return connection

    def connect_for_job(self) -> GuardedConnection:
        """Open a connection for the transaction of one job, to a file that is there."""
        self._check_file()
        return self._connect(
            f"journal_size_limit = {_MOST_LOG_KEPT}",
            f"synchronous = {self.synchronous.name}",
            f"foreign_keys = {'ON' if self.has_foreign_keys else 'OFF'}",
            factory=GuardedConnection,
        )

    def _check_file(self) -> None:
        if self.identify() is None:
            self.check_folder()
            raise BackendUnavailableError(f"there is no database {str(self.path)!r}; it was removed or never made")

    def _connect(self, *pragmas: str, factory: type[C]) -> C:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            raise UnsupportedError(f"SQLite {sqlite3.sqlite_version} is too old: {oldest} or later is needed")
        self.check_folder()
        _make_private(self.path)
        connection = sqlite3.connect(
            self.path,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=factory,
        )
        try:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            sqlite3.Connection.close(connection)
            raise
        return connection


def _make_private(path: Path) -> None:
    """
    Make the file, if there is none, so that only its user and, as the umask says, its group can read the jobs.

    SQLite gives those that it makes beside it the same mode. Made and not opened: to close a second handle on the file
    would drop SQLite's locks in this process.
    """
    with suppress(OSError):  # it is there; or SQLite says what is wrong, and where the system has no such call makes it
        os.mknod(path, stat.S_IFREG | _PRIVATE)


def to_text(stored: bytes) -> str:
    """Read a text. Other programs can write what is none: it reads with a sign where it is damaged."""
    return stored.decode("utf-8", "replace")


def raise_unless_of_content(error: Exception) -> None:
    """Raise an error again unless it is the content of a row that SQLite could not make sense of."""
    if isinstance(error, sqlite3.OperationalError) and "JSON" not in str(error):
        raise error


def translate(error: sqlite3.Error, database: Database) -> BackendError:
    """Return SQLite's error in our words: what happened to which file."""
    name, path = getattr(error, "sqlite_errorname", ""), str(database.path)
    for prefix, kind, words in _WORDS:
        if name.startswith(prefix):
            return kind(words.format(path=path, error=error, timeout=readable(database.timeout)))
    if isinstance(error, sqlite3.OperationalError):
        return BackendUnavailableError(f"the database {path!r} did not answer: {error}")
    return BackendError(f"the database {path!r} refused a statement: {error}")
