"""The database file: where it lies, and its connections."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from msgspec import Struct, field

from deeper_tasks.backends.sqlite.access import Access
from deeper_tasks.backends.sqlite.companion_files import make
from deeper_tasks.backends.sqlite.connection_guard import GuardedConnection
from deeper_tasks.backends.sqlite.forks import fork_lock
from deeper_tasks.backends.sqlite.obstacles import can_write, or_open_folders
from deeper_tasks.errors import BackendUnavailableError, UnsupportedError

_PRIVATE = 0o660

C = TypeVar("C", bound=sqlite3.Connection)

_READ_SCHEMA = "SELECT count(*) FROM sqlite_schema"

OLDEST_SQLITE = (3, 37, 0)

_MOST_LOG_KEPT = 16 * 1024 * 1024
"""The most bytes of the write-ahead log that stay on disk after a checkpoint, however long the log was."""


class Statements(Protocol):
    """The part of a connection that an operation uses; a cursor of the caller's has it too."""

    def execute(self, statement: str, parameters: Any = ..., /) -> sqlite3.Cursor:
        """Execute one statement."""

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement that returns nothing, once for each of the parameters."""


class StillConnection(sqlite3.Connection):
    """A connection without locks. Its reads hold if the file does not change: if `Database.state` stays the same."""


class Synchronous(StrEnum):
    """
    How a commit reaches the disk.

    FULL: a commit survives a power cut. NORMAL: it survives a crash of the process, but the last commits before a
    power cut may be lost.
    """

    FULL = "full"
    NORMAL = "normal"


class Database(Struct, frozen=True, kw_only=True):
    """
    The place of the database and the way in which it is opened.

    Attributes:
        path: the path that the user gave; it may be a link. `real` is the file that it leads to now.
        timeout: the seconds that a write waits for other writers.
        has_foreign_keys: whether the foreign keys of the application's tables are enforced in the transactions of
            jobs, where a pragma of the handler would come too late.
    """

    path: Path
    synchronous: Synchronous = Synchronous.FULL
    timeout: float = 10.0
    has_foreign_keys: bool = False
    _found: list[Path] = field(default_factory=list)

    @property
    def real(self) -> Path:
        """
        The path without links, the same by whatever name the file is opened.

        SQLite's files, the locks and the hints lie beside it. For a link that was removed it is the last known file.
        """
        found = Path(os.path.realpath(self.path))
        if identify(found) is not None:
            self._found[:] = [found]
        elif self._found and identify(self._found[0]) is not None:
            return self._found[0]
        return found

    def is_there(self) -> bool:
        """
        Whether the file is there.

        Raises:
            BackendUnavailableError: the system cannot look for it, as with a name that is too long.
        """
        return self._asked(self.path.exists)

    def check_folder(self) -> None:
        """Raise BackendUnavailableError if the folder does not exist: the error of SQLite does not name it."""
        folder = self.real.parent
        if not self._asked(folder.is_dir):
            raise BackendUnavailableError(f"the folder {str(folder)!r} of the database does not exist")

    def make(self) -> None:
        """
        Make the file, if there is none, so that only its user and, as the umask allows, its group can read the jobs.

        Root makes it for the owner of the folder, as the application will use it. The files that SQLite and this
        store make beside it have the same owner and mode.
        """
        self.check_folder()
        path = self.real
        self._check_kind(path)
        folder = Access.of(path.parent)
        # The file is there; or SQLite reports the fault; or the system has no such call, and SQLite makes the file.
        with suppress(OSError):
            if os.geteuid() == 0 and folder is not None and folder.user != 0:
                if not path.exists():
                    make(path, mode=_PRIVATE, access=Access(user=folder.user, group=folder.group, mode=None))
            else:
                # Made and not opened: to close a second handle on the file would drop SQLite's locks in this process.
                os.mknod(path, stat.S_IFREG | _PRIVATE)

    def _check_kind(self, path: Path) -> None:
        """Raise BackendUnavailableError, before any file is made beside it, for what cannot be a database."""
        with suppress(OSError):
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
                raise BackendUnavailableError(
                    f"the database {str(self.path)!r} cannot be opened: it is {kind} and no file; "
                    "correct the store's URL"
                )

    def _asked(self, question: Callable[[], bool]) -> bool:
        try:
            return question()
        except OSError as error:
            raise BackendUnavailableError(
                f"the database {str(self.path)!r} cannot be opened: {error.strerror}; correct the store's URL"
                f"{or_open_folders(self.path) if isinstance(error, PermissionError) else ''}"
            ) from error

    def identify(self) -> tuple[int, int] | None:
        """Return the numbers that tell this file from another of the same name; None: there is no file."""
        return identify(self.path) or identify(self.real)

    def connect_to_write(self) -> sqlite3.Connection:
        """Open the one connection of this process that writes, and checkpoints."""
        connection = self._connect(
            # First: it takes effect in a file that is still empty, and none in any other.
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
        """
        Open a connection that never writes and never checkpoints, to a file that is there.

        Where this user can write neither the file nor its folder, and no other process has it open, SQLite reads it
        only as a file that does not change: the connection is then a `StillConnection`.
        """
        self._check_file()
        connection: sqlite3.Connection
        if can_write(self.real):
            connection = self._connect("query_only = ON", factory=sqlite3.Connection)
        else:
            connection = self._connect_without_rights()
        connection.row_factory = sqlite3.Row
        connection.text_factory = to_text
        return connection

    def _connect_without_rights(self) -> sqlite3.Connection:
        connection = self._connect("query_only = ON", factory=sqlite3.Connection)
        try:
            connection.execute(_READ_SCHEMA)
        except sqlite3.OperationalError:
            connection.close()
            if self.state() is None:
                raise
            return self._connect("query_only = ON", factory=StillConnection)
        return connection

    def state(self) -> tuple[int, ...] | None:
        """Return values that change with the file; None: a log lies beside it, which a process writes or has left."""
        path = self.real
        try:
            if path.with_name(f"{path.name}-wal").stat().st_size:
                return None
        except OSError:
            pass
        try:
            status = path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

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
            raise BackendUnavailableError(f"there is no database {str(self.path)!r}; it was removed or never created")

    def _connect(self, *pragmas: str, factory: type[C]) -> C:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            raise UnsupportedError(f"SQLite {sqlite3.sqlite_version} is too old: {oldest} or later is needed")
        fork_lock.check(self.real)
        self.make()
        is_still = issubclass(factory, StillConnection)
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.real))}?mode=ro&immutable=1" if is_still else self.real,
            uri=is_still,
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


def identify(path: Path) -> tuple[int, int] | None:
    """Return the numbers that tell the file at a path from another of the same name; None: there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def to_text(stored: bytes) -> str:
    """Read a text. A damaged one, which other programs can write, reads with a replacement character."""
    return stored.decode("utf-8", "replace")
