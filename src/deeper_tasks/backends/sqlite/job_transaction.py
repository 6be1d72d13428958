"""A job's transaction: begun and ended in the store's thread, used by the handler in between."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from deeper_tasks.backends.sqlite import consuming
from deeper_tasks.backends.sqlite.caller_transaction import own_cursor
from deeper_tasks.backends.sqlite.connection_guard import GuardedConnection
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.driver_errors import translate
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.settlement import Report, Settled, Settlement
from deeper_tasks.errors import BackendUnavailableError, TransactionError

Act = Callable[[], Settled | None]
_OVER = "the job's transaction is over"


class SQLiteJobTransaction:
    """
    See `JobTransaction`. Its thread waits within the writers' turn for the request to end it, or for `limit` seconds.

    So it ends in time even if the handler blocks the event loop, or runs in a thread that cannot be stopped.
    """

    def __init__(self, database: Database, *, limit: float, now: Callable[[], int], loop_thread: int | None) -> None:
        self.blocked_file: str | None = str(database.real)
        self.is_over = False
        self.broken: Exception | None = None
        # Stays None: no statement through the connection can end the transaction.
        self.spoiled: TransactionError | None = None
        self.begun: Future[None] = Future()
        self._database = database
        self._limit = limit
        self._now = now
        self._loop_thread = loop_thread
        self._connection: GuardedConnection | None = None
        self._ends: queue.SimpleQueue[tuple[Act, Future[Settled | None]]] = queue.SimpleQueue()
        self._answer: Future[Settled | None] | None = None
        self._ending = threading.Lock()

    @property
    def connection(self) -> GuardedConnection:
        """The connection of the handler."""
        assert self._connection is not None
        return self._connection

    async def complete(self, settlement: Settlement, *, report: Report | None = None) -> Settled | None:
        """See `JobTransaction.complete`."""
        answer = self._end(partial(self._complete, settlement, report))
        if answer is None:
            raise TransactionError(_OVER) from self.broken
        return await asyncio.wrap_future(answer)

    async def rollback(self) -> None:
        """See `JobTransaction.rollback`."""
        if (answer := self._end(lambda: None)) is not None:
            await asyncio.wrap_future(answer)

    def interrupt(self) -> None:
        """See `JobTransaction.interrupt`."""
        with suppress(sqlite3.ProgrammingError):  # it is closed
            self.connection.interrupt()

    def give_up(self) -> None:
        """Roll back a transaction whose caller has gone, without waiting."""
        self._end(lambda: None)

    def break_off_for_fork(self) -> None:
        """Roll back if the forking thread itself uses the transaction: the fork would wait for itself."""
        if self._connection is None:
            return
        if threading.get_ident() in {self._loop_thread, self._connection.guard.user}:
            error = TransactionError("the process was forked inside the job's transaction, which was rolled back")
            self._end(partial(self._break, error))

    # in the thread of the store

    def break_off(self) -> None:
        """Answer the handler after an exception in this thread: the transaction was rolled back, or never began."""
        error = BackendUnavailableError("the thread of the store was interrupted; try again")
        with self._ending:
            self.is_over, answer = True, self._answer
        for waited_for in (self.begun, answer):
            if waited_for is not None and not waited_for.done():
                waited_for.set_exception(error)
        self.broken = self.broken or error

    def serve(self) -> None:
        """Begin, hand the connection over, and end as requested, or when the time is up."""
        self._connection = self._database.connect_for_job()
        try:
            self._connection.guard.begin()
            # A cancellation of `begin` after this line gives the transaction up: it has begun.
            if self.begun.set_running_or_notify_cancel():
                self.begun.set_result(None)
                self._end_as_requested()
        finally:
            self._connection.guard.shut(_OVER)

    def _end_as_requested(self) -> None:
        act, answer = self._next_end()
        settled: Settled | None = None
        failure: Exception | None = None
        try:
            settled = act()
        except Exception as error:  # noqa: BLE001 - it is raised where the end is awaited
            failure = translate(error, self._database) if isinstance(error, sqlite3.Error) else error
        # Before the answer: a caller that has it may expect the connection to be closed.
        self.connection.guard.shut(_OVER)
        if failure is None:
            answer.set_result(settled)
        else:
            answer.set_exception(failure)

    def _next_end(self) -> tuple[Act, Future[Settled | None]]:
        try:
            return self._ends.get(timeout=self._limit)
        except queue.Empty:
            with self._ending:
                if self.is_over:
                    # The request came at the last moment.
                    return self._ends.get()
                self.is_over = True
            error = TimeoutError(f"the job's transaction took longer than the {readable(self._limit)} that it may take")
            return partial(self._break, error), Future()

    def _complete(self, settlement: Settlement, report: Report | None) -> Settled | None:
        connection = self.connection
        with connection.guard.alone(), own_cursor(connection) as cursor:
            connection.guard.check_mark()
            now = self._now()
            # The report shows whether the token still holds, and writes the last progress.
            last = report or Report(id=settlement.id, token=settlement.token)
            if not consuming.report(cursor, [last], now=now):
                return None
            [settled] = consuming.settle(cursor, [settlement], now=now).settled
            cursor.execute("COMMIT")
            return settled

    def _break(self, error: Exception) -> None:
        self.broken = error
        self.connection.guard.shut(f"{error}; it was rolled back")

    # in any thread

    def _end(self, act: Act) -> Future[Settled | None] | None:
        """Request the end; None: it is over, or another end was requested before."""
        answer: Future[Settled | None] = Future()
        with self._ending:
            if self.is_over:
                return None
            self.is_over, self._answer = True, answer
            self._ends.put((act, answer))
        return answer
