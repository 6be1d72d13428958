"""The reader: the thread that reads, on a connection that never writes."""

from __future__ import annotations

import sqlite3
from typing import Any

from deeper_tasks.backends.sqlite.database import StillConnection
from deeper_tasks.backends.sqlite.database_thread import DatabaseThread, Request
from deeper_tasks.errors import BackendUnavailableError

_TRIES_AT_A_STILL_FILE = 5
_STEPS_BETWEEN_CHECKS = 200_000
"""Steps of SQLite's virtual machine, some milliseconds, after which a long search asks whether it is still wanted."""


class Reader(DatabaseThread):
    """A thread that reads: each operation sees one state of the database, and stops when its caller is cancelled."""

    def _perform(self, batch: list[Request[Any]]) -> None:
        for request in batch:
            try:
                self._keep_to_the_file()
                connection = self._connected(self._database.connect_to_read)
                if isinstance(connection, StillConnection):
                    self._read_still(request)
                else:
                    self._read(connection, request)
            except Exception as error:  # noqa: BLE001 - every error is the caller's
                self._fail(request, error)

    def _read(self, connection: sqlite3.Connection, request: Request[Any]) -> None:
        connection.set_progress_handler(request.future.cancelled, _STEPS_BETWEEN_CHECKS)
        connection.execute("BEGIN")
        try:
            request.answer = request.operation(connection)
        finally:
            connection.execute("COMMIT")

    def _read_still(self, request: Request[Any]) -> None:
        """Read a file without locks, and read it again if another process has written to it meanwhile."""
        for _ in range(_TRIES_AT_A_STILL_FILE):
            self._disconnect()
            state = self._database.state()
            connection = self._connected(self._database.connect_to_read)
            try:
                self._read(connection, request)
            except sqlite3.Error:
                if self._database.state() == state:
                    raise
            if state is not None and self._database.state() == state:
                return
            if not isinstance(connection, StillConnection):
                return
        raise BackendUnavailableError(
            f"the database {str(self._database.path)!r} changed during each of {_TRIES_AT_A_STILL_FILE} reads, "
            f"because this "
            "user may not lock it; try again, or run as a user that may write to it"
        )
