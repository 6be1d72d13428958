"""The writer: the one thread of a process that writes, several operations in one commit."""

from __future__ import annotations

import sqlite3
from typing import Any

from deeper_tasks.backends.sqlite.database import Database, Synchronous
from deeper_tasks.backends.sqlite.database_thread import DatabaseThread, Request
from deeper_tasks.backends.sqlite.write_lock import WriteLock


class Writer(DatabaseThread):
    """
    A thread that writes: the operations that come while a commit is under way share the next one.

    Each operation is atomic by itself, in a savepoint of its own, and is answered after the commit. An operation that
    fails undoes no other.
    """

    def __init__(self, database: Database, *, name: str) -> None:
        super().__init__(database, name=name)
        self._write_lock: WriteLock | None = None
        self._synchronous = database.synchronous

    def _disconnect(self) -> None:
        super()._disconnect()
        self._synchronous = self._database.synchronous
        self._leave_turns()

    def _leave_turns(self) -> None:
        if self._write_lock is not None:
            self._write_lock.close()
            self._write_lock = None

    def _perform(self, batch: list[Request[Any]]) -> None:
        try:
            # Before the turn: another file has other locks.
            self._keep_to_the_file()
            if self._write_lock is None:
                # The database first: its lock files take its owner and its mode.
                self._database.make()
                self._write_lock = WriteLock(self._database.real, timeout=self._database.timeout)
            with self._write_lock.turn():
                connection = self._connected(self._database.connect_to_write)
                self._transact(connection, [request for request in batch if request.in_transaction])
                self._run_without_transaction(connection, [request for request in batch if not request.in_transaction])
        except Exception as error:  # noqa: BLE001 - every error is the callers'
            self._fail_together(batch, error)

    def _run_without_transaction(self, connection: sqlite3.Connection, batch: list[Request[Any]]) -> None:
        for request in batch:
            try:
                request.answer = request.operation(connection)
            except Exception as error:  # noqa: BLE001 - every error is the caller's
                self._fail(request, error)

    def _transact(self, connection: sqlite3.Connection, batch: list[Request[Any]]) -> None:
        if not batch:
            return
        self._synchronise(connection, is_durable=any(request.is_durable for request in batch))
        connection.execute("BEGIN IMMEDIATE")
        try:
            for request in batch:
                self._run_in_savepoint(connection, request)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _synchronise(self, connection: sqlite3.Connection, *, is_durable: bool) -> None:
        """Set whether the next commit waits for the disk. A commit that does makes all commits before it durable."""
        wanted = self._database.synchronous if is_durable else Synchronous.NORMAL
        if wanted is not self._synchronous:
            connection.execute(f"PRAGMA synchronous = {wanted.name}")
            self._synchronous = wanted

    def _run_in_savepoint(self, connection: sqlite3.Connection, request: Request[Any]) -> None:
        connection.execute("SAVEPOINT operation")
        try:
            request.answer = request.operation(connection)
        except Exception as error:
            if not connection.in_transaction:
                # SQLite rolled everything back (disk full, I/O error): no other operation was written either.
                raise
            connection.execute("ROLLBACK TO operation")
            self._fail(request, error)
        connection.execute("RELEASE operation")
