"""A database thread: runs operations on a connection of its own, in the order in which they come."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from deeper_tasks import native
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.driver_errors import is_of_connection, translate
from deeper_tasks.backends.sqlite.forks import fork_lock, not_the_last
from deeper_tasks.backends.sqlite.inbox import Inbox
from deeper_tasks.errors import BackendUnavailableError, copy_of
from deeper_tasks.lasting import lasting

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]

_MOST_TOGETHER = 64
"""The most operations in one transaction: enough to share a commit, few enough to keep it short."""


class Request(Generic[T]):
    """An operation on its way to a thread, and the future that its caller awaits."""

    __slots__ = ("answer", "error", "future", "in_transaction", "is_durable", "loop", "operation")

    def __init__(
        self, operation: Operation[T], loop: asyncio.AbstractEventLoop, *, in_transaction: bool, is_durable: bool
    ) -> None:
        self.operation = operation
        self.in_transaction = in_transaction
        self.is_durable = is_durable
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()
        self.answer: T | None = None
        self.error: BaseException | None = None

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)  # type: ignore[arg-type]


class ThreadEndedError(BackendUnavailableError):
    """The error of an operation that was not begun, because its thread was closed before."""


class DatabaseThread:
    """
    A thread that runs whole operations on a connection of its own, in the order in which they come.

    A hand-over between threads costs about 0.1 ms, so an operation is a whole method of the store and never a
    single statement.

    An exception that is raised in the thread itself, such as a MemoryError or one that other code sends to it, fails
    the operations under way. The thread goes on.
    """

    def __init__(self, database: Database, *, name: str) -> None:
        self._database = database
        self._requests: Inbox[Request[Any]] = Inbox()
        self._batch: list[Request[Any]] = []
        self._is_performed = False
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._needs_new_connection = False
        self._using = native.allocate_lock()
        self._thread = native.make_thread(lasting(self._serve, name=name), name=name)
        self._is_closed = self._has_ended = False

    def start(self) -> None:
        """Start the thread."""
        fork_lock.watch(self)
        self._thread.start()

    async def run(self, operation: Operation[T], *, in_transaction: bool = True, is_durable: bool = True) -> T:
        """
        Run an operation in the thread and return its answer.

        Without `in_transaction` it runs outside of a transaction, within the turn of its process. Without `is_durable`
        it is answered before the disk has confirmed the commit.

        Raises:
            ThreadEndedError: the store is closed.
            Exception: the operation raised it; an error of SQLite is translated.
        """
        if self._is_closed:
            raise ThreadEndedError("the store is closed")
        request = Request(operation, asyncio.get_running_loop(), in_transaction=in_transaction, is_durable=is_durable)
        self._requests.put(request)
        if self._has_ended:
            # It was closed since the first look, and may not have seen the request.
            raise ThreadEndedError("the store is closed")
        return await request.future

    def close(self) -> None:
        """Let the operations under way end, close the connection and end the thread. Blocks for that long."""
        if not self._is_closed:
            self._is_closed = True
            self._requests.sign()
            self._thread.join()

    def _serve(self) -> None:
        self._break_off()
        while not (self._is_closed and self._requests.is_empty):
            self._gather()
            if self._batch:
                with self._using:
                    self._perform(self._batch)
                self._is_performed = True
                self._deliver()
        with self._using:
            self._disconnect()
        self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """Fail the requests that came while the thread ended."""
        self._has_ended = True
        rest: list[Request[Any]] = []
        while (request := self._requests.take()) is not None:
            request.error = ThreadEndedError("the store is closed")
            rest.append(request)
        _deliver(rest)

    def _gather(self) -> None:
        """Wait for a request, and take all others that have come until then."""
        requests, batch = self._requests, self._batch
        requests.wait()
        while (request := requests.take()) is not None:
            batch.append(request)
            if len(batch) == _MOST_TOGETHER or not requests.has_signs:
                return
            requests.wait()

    def _deliver(self) -> None:
        _deliver(self._batch)
        self._batch, self._is_performed = [], False

    def _break_off(self) -> None:
        """Fail the operations that an exception in this thread has cut off, and close the connection."""
        self._requests.sign()
        if not self._batch:
            return
        if not self._is_performed:
            with self._using:
                self._disconnect()
            error = BackendUnavailableError("the thread of the store was interrupted; try again")
            self._fail_together(self._batch, error)
        self._deliver()

    def expect_fork(self) -> None:
        """Do nothing: an operation under way ends by itself."""

    def hold(self) -> None:
        """Wait for the operations under way, disconnect, and do no more until `go_on`."""
        self._using.acquire()
        self._disconnect()

    def go_on(self) -> None:
        """Work again, with a new connection."""
        self._using.release()

    def leave_to_parent(self) -> Path | None:
        """In the child of a fork: close this process's copies of the files, and unlock nothing; see `Holder`."""
        self._leave_turns()
        if not self._using.acquire(blocking=False):
            return self._database.real
        with not_the_last(self._database.real):
            self._disconnect()
        return None

    def _leave_turns(self) -> None:
        """Close the lock files."""

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """Return the connection, opened once."""
        if self._connection is None:
            self._connection = connect()
            self._file = self._database.identify()
        return self._connection

    def _keep_to_the_file(self) -> None:
        """
        Disconnect if another file has taken the place of this one, or if only a new connection can work again.

        A file that was removed or replaced lives on for the processes that have it open: a job that is written there
        is lost without an error.

        Raises:
            BackendUnavailableError: the file was removed, and no other is in its place.
        """
        if self._needs_new_connection:
            self._needs_new_connection = False
            self._disconnect()
        if self._connection is None or (found := self._database.identify()) == self._file:
            return
        if found is None:
            path = str(self._database.path)
            raise BackendUnavailableError(
                f"the database {path!r} was removed while it was open: put it back, or run 'deeper migrate'"
            )
        self._disconnect()

    def _perform(self, batch: list[Request[Any]]) -> None:
        raise NotImplementedError

    def _fail(self, request: Request[Any], error: Exception) -> None:
        self._needs_new_connection |= is_of_connection(error)
        translated = translate(error, self._database) if isinstance(error, sqlite3.Error) else error
        request.answer, request.error = None, translated

    def _fail_together(self, batch: Sequence[Request[Any]], error: Exception) -> None:
        for request in batch:
            # A copy for each: a caller adds to its error what concerns it alone, such as the ids of its jobs.
            self._fail(request, copy_of(error) if len(batch) > 1 else error)


def _deliver(batch: list[Request[Any]]) -> None:
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[Request[Any]]] = defaultdict(list)
    for request in batch:
        by_loop[request.loop].append(request)
    for loop, requests in by_loop.items():
        try:
            loop.call_soon_threadsafe(partial(_deliver_all, requests))
        except RuntimeError:
            # The caller's event loop was closed meanwhile, and no task waits for the answer any more.
            continue


def _deliver_all(requests: list[Request[Any]]) -> None:
    for request in requests:
        request.deliver()
