"""The connections of a process to the database: a few for each of its event loops, lent for one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import psycopg

from deeper_tasks import native
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.connecting import Connection, connect, cut
from deeper_tasks.backends.postgres.loop_connections import LoopConnections
from deeper_tasks.backends.postgres.refusals import (
    POOLER_WAY_OUT,
    first_line,
    is_of_lost_connection,
    is_of_pooler,
    is_of_session,
)
from deeper_tasks.backends.postgres.renewal import Renewal
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.forks import process_watch
from deeper_tasks.run_in_thread import run_in_thread


class RenewedError(Exception):
    """The server refused a call because of its session; the next connection has a new one. The cause is the refusal."""


class Connections:
    """
    The connections of a store, by event loop: a connection belongs to the loop that opened it.

    Safe to use from any number of threads and loops. The child of a fork leaves its parent's connections alone and
    opens its own. If the server refuses a call because of its session, all connections are replaced.
    """

    def __init__(self, address: Address) -> None:
        self.renewal = Renewal()
        self._address = address
        self._seconds = address.timeout.total_seconds()
        self._is_closed = False
        self._loops: dict[asyncio.AbstractEventLoop, LoopConnections] = {}
        self._count()
        process_watch.add(self)

    def reopen(self) -> None:
        """Allow lending again, after `close`."""
        self._is_closed = False

    @asynccontextmanager
    async def lend(self, *, until: float | None = None, is_urgent: bool = False) -> AsyncIterator[Connection]:
        """
        Lend a connection that seems alive. A connection that comes back broken is dropped.

        It waits for one until the moment `until` by the loop's clock, or for the address's timeout. Urgent calls and
        others use different connections, as far as there are enough.

        Raises:
            BackendUnavailableError: all are in use, or the server does not take another.
            RenewedError: the server refused a call because of its session, and a new session may do better.
        """
        process_watch.notice()
        if until is None:
            until = asyncio.get_running_loop().time() + self._seconds
        own = self._of_this_loop()
        async with own.place(until):
            with self._counting:
                self._lent += 1
            connection, is_good = None, True
            try:
                connection = own.take(is_urgent=is_urgent)
                if connection is None:
                    generation = self.renewal.generation
                    connection = await self._open(until)
                    own.lent[connection] = generation
                yield connection
            except psycopg.Error as error:
                is_good = not is_of_lost_connection(error)
                if connection is not None and is_of_session(error) and self.renewal.refused(own.lent[connection]):
                    raise RenewedError from error
                raise
            finally:
                if connection is not None:
                    own.give_back(connection, is_wanted=is_good and not self._is_closed, is_urgent=is_urgent)
                with self._counting:
                    self._lent -= 1
                    while self._waiting and not self._lent:
                        self._waiting.pop().release()

    async def close(self) -> None:
        """Close all connections, after the calls under way have ended; cut those that take longer than the timeout."""
        self._is_closed = True
        if self._lent:
            await run_in_thread(partial(self._wait_for_calls, self._seconds))
        for own in list(self._loops.values()):
            own.clear()
            for connection in list(own.lent):
                cut(connection)
        self._loops.clear()

    def forget_parent(self) -> None:
        """Drop the parent's connections in the child of a fork, and a lock that may never be released."""
        self.renewal.forget_parent()
        for own in self._loops.values():
            own.abandon()
        self._loops = {}
        self._count()

    def _count(self) -> None:
        self._counting = native.allocate_lock()
        self._lent = 0
        self._waiting: list[native.Lock] = []

    def _wait_for_calls(self, seconds: float) -> None:
        ended = native.allocate_lock()
        ended.acquire()
        with self._counting:
            if not self._lent:
                return
            self._waiting.append(ended)
        ended.acquire(timeout=seconds)

    async def _open(self, until: float) -> Connection:
        seconds = until - asyncio.get_running_loop().time()
        try:
            return await connect(
                self._address.conninfo, address=self._address, pooler=self._address.pooler, seconds=seconds
            )
        except psycopg.Error as error:
            way_out = f"; {POOLER_WAY_OUT}" if is_of_pooler(error) else ""
            raise BackendUnavailableError(
                f"no connection to {self._address!r}: {first_line(error, self._address)}{way_out}"
            ) from error

    def _of_this_loop(self) -> LoopConnections:
        loop = asyncio.get_running_loop()
        own = self._loops.get(loop)
        if own is None:
            with self._counting:
                for other in [other for other in self._loops if other.is_closed()]:
                    self._loops.pop(other).clear()
                own = self._loops[loop] = LoopConnections(self._address, self.renewal)
        return own
