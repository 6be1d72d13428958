"""The threads of a store in one process: one writes, two read, and one carries the transactions of jobs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.database_thread import Operation, ThreadEndedError
from deeper_tasks.backends.sqlite.forks import fork_lock, watch_forks
from deeper_tasks.backends.sqlite.reader import Reader
from deeper_tasks.backends.sqlite.transactor import Transactor
from deeper_tasks.backends.sqlite.writer import Writer
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.forks import process_watch
from deeper_tasks.run_in_thread import run_in_thread

T = TypeVar("T")
_Thread = TypeVar("_Thread", Writer, Reader)


class StoreThreads:
    """
    Runs each operation of a store on the thread for its kind.

    A fork is noticed: the child starts threads of its own at its first operation. An operation on threads that are
    not started raises BackendUnavailableError; one that comes while they are closed starts them again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._transactor: Transactor | None = None
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._lister: Reader | None = None
        self._closings = 0
        self.are_open = False
        """Whether they are started and not closed: then a fork's child starts its own."""
        # At once, not with the first thread: the process seldom forks at the moment at which it makes a store.
        watch_forks()
        process_watch.add(self)

    def start_once(self) -> None:
        """Start the threads, unless they run."""
        with fork_lock:
            if self._lister is None:
                self._start()
                self.are_open = True

    def check_open(self) -> None:
        """Raise BackendUnavailableError if the threads are not started."""
        self._open_thread(lambda: self._writer)

    async def write(self, operation: Operation[T], *, in_transaction: bool = True, is_durable: bool = True) -> T:
        """Run an operation that writes; see `DatabaseThread.run`."""
        while True:
            writer = self._open_thread(lambda: self._writer)
            with suppress(ThreadEndedError):
                return await writer.run(operation, in_transaction=in_transaction, is_durable=is_durable)

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that reads a few jobs."""
        return await self._read(operation, lambda: self._reader)

    async def list(self, operation: Operation[T]) -> T:
        """Run an operation that may search through all jobs. It holds up no other read."""
        return await self._read(operation, lambda: self._lister)

    async def _read(self, operation: Operation[T], thread: Callable[[], Reader | None]) -> T:
        while True:
            reader = self._open_thread(thread)
            with suppress(ThreadEndedError):
                return await reader.run(operation)

    def transactor(self) -> Transactor:
        """Return the thread of the jobs' transactions, started once."""
        self.check_open()
        with fork_lock:
            if self._transactor is None:
                self._transactor = Transactor(self._database, name=f"deeper-jobs-{self._database.path.name}")
                self._transactor.start()
            return self._transactor

    async def close(self) -> None:
        """End the threads. Operations under way end first."""
        self.are_open = False
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        lister, self._lister = self._lister, None
        transactor, self._transactor = self._transactor, None
        self._closings += 1
        try:
            for thread in (transactor, lister, reader, writer):
                if thread is not None:
                    await run_in_thread(thread.close)
        finally:
            self._closings -= 1

    def forget_parent(self) -> None:
        """In the child of a fork: go on with threads of its own, from the next operation on."""
        self._writer = self._reader = self._lister = self._transactor = None

    def _start(self) -> None:
        fork_lock.check(self._database.real)
        name = self._database.path.name
        writer = Writer(self._database, name=f"deeper-write-{name}")
        reader = Reader(self._database, name=f"deeper-read-{name}")
        lister = Reader(self._database, name=f"deeper-list-{name}")
        for thread in (writer, reader, lister):
            thread.start()
        # Not before they run: another thread of a child asks for them without the lock.
        self._writer, self._reader, self._lister = writer, reader, lister

    def _open_thread(self, thread: Callable[[], _Thread | None]) -> _Thread:
        process_watch.notice()
        chosen = thread()
        if chosen is None and (self.are_open or self._closings):
            # The threads of the parent do not run in this process, or those that there were are being closed.
            self.start_once()
            chosen = thread()
        if chosen is None:
            raise BackendUnavailableError("the store is not open; use 'async with manager:' or 'await manager.open()'")
        return chosen
