"""The transactor: the thread in which the transactions of jobs begin and end, one at a time for the whole file."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.driver_errors import translate
from deeper_tasks.backends.sqlite.forks import fork_lock
from deeper_tasks.backends.sqlite.inbox import Inbox
from deeper_tasks.backends.sqlite.job_transaction import SQLiteJobTransaction
from deeper_tasks.backends.sqlite.write_lock import WriteLock
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.lasting import lasting

_PAUSE_SHARE = 0.1
"""
The part of a transaction's time for which the next one is kept out of the writers' line.

A writer that waited meanwhile, such as a heartbeat, then comes first.
"""


class Transactor:
    """
    Begins the transactions of jobs one after the other, in turn with those of other processes.

    Each waits in a line of the jobs' transactions first and in the writers' line then. So only one of them at a time
    competes with the short writes.
    """

    def __init__(self, database: Database, *, name: str) -> None:
        self._database = database
        self._requests: Inbox[SQLiteJobTransaction] = Inbox()
        self._taken: SQLiteJobTransaction | None = None
        self._using = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._write_locks: tuple[WriteLock, WriteLock] | None = None
        self._open: SQLiteJobTransaction | None = None
        self._is_closed = self._is_forking = False
        self._thread = threading.Thread(target=lasting(self._run, name=name), name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        fork_lock.watch(self)
        self._thread.start()

    async def begin(self, *, is_async: bool, limit: float, now: Callable[[], int]) -> SQLiteJobTransaction:
        """Begin a transaction at its turn. See `Transacting.begin`."""
        if self._is_closed:
            raise BackendUnavailableError("the store is closed")
        transaction = SQLiteJobTransaction(
            self._database, limit=limit, now=now, loop_thread=threading.get_ident() if is_async else None
        )
        self._requests.put(transaction)
        try:
            await asyncio.wrap_future(transaction.begun)
        except asyncio.CancelledError:
            transaction.give_up()
            raise
        return transaction

    def close(self) -> None:
        """Begin no more transactions, wait for the one under way, and end the thread."""
        if not self._is_closed:
            self._is_closed = True
            self._requests.sign()
            self._thread.join()

    def expect_fork(self) -> None:
        """Leave the line, and roll back a transaction whose handler runs in the forking thread."""
        self._is_forking = True
        if (transaction := self._open) is not None:
            transaction.break_off_for_fork()

    def hold(self) -> None:
        """Wait for the end of the transaction under way, and begin no more until `go_on`."""
        self._using.acquire()
        self._let_go()

    def go_on(self) -> None:
        """Begin transactions again."""
        self._is_forking = False
        self._using.release()

    def leave_to_parent(self) -> Path | None:
        """In the child of a fork: close this process's copies of the lock files, and unlock nothing; see `Holder`."""
        self._let_go()
        return None if self._using.acquire(blocking=False) else self._database.real

    def _run(self) -> None:
        self._break_off()
        while not (self._is_closed and self._requests.is_empty):
            self._requests.wait()
            self._taken = self._requests.take()
            if self._taken is not None:
                with self._using:
                    self._conduct(self._taken)
                self._taken = None
        with self._using:
            self._let_go()

    def _break_off(self) -> None:
        """End the transaction that an exception in this thread has cut off."""
        self._requests.sign()
        if self._taken is not None:
            self._taken.break_off()
            self._taken = None
            with self._using:
                self._let_go()

    def _conduct(self, transaction: SQLiteJobTransaction) -> None:
        try:
            with self._turn(transaction):
                self._open = transaction
                transaction.serve()
        except Exception as error:  # noqa: BLE001 - every error is the caller's
            if self._is_forking and not self._is_closed and not transaction.begun.done():
                self._requests.put(transaction)
            elif not transaction.begun.done():
                transaction.begun.set_exception(
                    translate(error, self._database) if isinstance(error, sqlite3.Error) else error
                )
        finally:
            self._open = None

    @contextmanager
    def _turn(self, transaction: SQLiteJobTransaction) -> Iterator[None]:
        def is_wanted() -> bool:
            return not (self._is_closed or self._is_forking or transaction.begun.cancelled())

        if not is_wanted():
            raise BackendUnavailableError("the store is closed")
        self._database.check_folder()
        if (found := self._database.identify()) != self._file:
            # Another file has this name, or the link leads to another file: its locks lie elsewhere.
            self._let_go()
        if self._write_locks is None:
            self._file, path = found, self._database.real
            self._write_locks = (
                WriteLock(path, timeout=math.inf, line="jobs-"),
                WriteLock(path, timeout=self._database.timeout),
            )
        jobs, writers = self._write_locks
        with jobs.turn(is_wanted=is_wanted):
            with writers.turn():
                began = time.monotonic()
                yield
            time.sleep(_PAUSE_SHARE * (time.monotonic() - began))

    def _let_go(self) -> None:
        for write_lock in self._write_locks or ():
            write_lock.close()
        self._write_locks = None
