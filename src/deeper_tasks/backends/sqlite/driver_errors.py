"""Driver errors: the errors of SQLite as errors of this library, which name the file and the way out."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol

from deeper_tasks.backends import reading
from deeper_tasks.backends.migrations import SchemaLostError
from deeper_tasks.backends.sqlite.obstacles import obstacle
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendError, BackendUnavailableError, SchemaError

UNREADABLE = (*reading.UNREADABLE, sqlite3.OperationalError)
"""The errors by which a statement over many rows, or the reading of its answer, fails because of a damaged row."""

_MESSAGES: tuple[tuple[str, type[BackendError], str], ...] = (
    ("SQLITE_NOTADB", SchemaError, "{path!r} is not an SQLite database; name another file"),
    ("SQLITE_CORRUPT", SchemaError, "the database {path!r} is damaged ({error}); restore it from a copy"),
    ("SQLITE_FULL", BackendUnavailableError, "the disk is full: nothing was written to {path!r}"),
    ("SQLITE_READONLY", BackendUnavailableError, "the database {path!r} or its folder is read-only"),
    ("SQLITE_CANTOPEN", BackendUnavailableError, "the database {path!r} cannot be opened: {error}"),
    (
        "SQLITE_IOERR",
        BackendUnavailableError,
        (
            "the database {path!r} did not answer: {error}; look into the system's log for faults of the disk, and "
            "where no folder for temporary files can be written name one by the variable SQLITE_TMPDIR"
        ),
    ),
    (
        "SQLITE_BUSY",
        BackendUnavailableError,
        (
            "the database {path!r} was locked for longer than {timeout}, by a transaction of another connection; "
            "if it is this program's own, end it first, or enqueue inside it with connection="
        ),
    ),
)

_DENIED = ("SQLITE_READONLY", "SQLITE_CANTOPEN")
_TABLE_MISSING = "no such table: deeper_"
_OF_CONNECTION = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_NOTADB", "SQLITE_CORRUPT")


class Named(Protocol):
    """The parts of a database that its errors name."""

    @property
    def path(self) -> Path:
        """The path by which it is opened."""

    @property
    def real(self) -> Path:
        """The file that the path leads to."""

    @property
    def timeout(self) -> float:
        """The seconds that a write waits for other writers."""


def raise_unless_of_content(error: Exception) -> None:
    """Raise an error again unless SQLite raised it because the content of a row is damaged."""
    if isinstance(error, sqlite3.OperationalError) and "JSON" not in str(error):
        raise error


def is_of_connection(error: Exception) -> bool:
    """Whether a new connection may work: one that was opened while the file could only be read stays that way."""
    return getattr(error, "sqlite_errorname", "").startswith(_OF_CONNECTION)


def translate(error: sqlite3.Error, database: Named) -> BackendError:
    """Return the error of this library for an error of SQLite."""
    name, path = getattr(error, "sqlite_errorname", ""), str(database.path)
    for prefix, kind, words in _MESSAGES:
        if name.startswith(prefix):
            if name.startswith(_DENIED) and (found := obstacle(database.real)):
                return kind(found.of(database.real))
            return kind(words.format(path=path, error=error, timeout=readable(database.timeout)))
    if str(error).startswith(_TABLE_MISSING):
        return SchemaLostError(f"the database {path!r} lacks a part of the schema: {error}; run 'deeper migrate'")
    if isinstance(error, sqlite3.OperationalError):
        return BackendUnavailableError(f"the database {path!r} did not answer: {error}")
    return BackendError(f"the database {path!r} refused a statement: {error}")
