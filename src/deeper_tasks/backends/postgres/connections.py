"""The connections of a process to the database: a few for each of its event loops, lent for one call at a time."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection, BaseConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deeper_tasks import native
from deeper_tasks.backends.postgres import session
from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.refusals import (
    POOLER_WAY_OUT,
    first_line,
    is_of_lost_connection,
    is_of_pooler,
    is_of_session,
)
from deeper_tasks.backends.postgres.renewal import Renewal
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.forks import process_watch
from deeper_tasks.run_in_thread import run_in_thread

Connection = AsyncConnection[tuple[Any, ...]]


class RenewedError(Exception):
    """A session was refused for what it is, and the next that is lent is a new one. Its cause is what was refused."""


_SHORTEST_CONNECT = 2
"""Seconds; libpq takes fewer for more."""


async def connect(conninfo: str, *, address: Address, pooler: Pooler, seconds: float | None = None) -> Connection:
    """
    Open a connection as this store wants it, by way of a pooler or none, within `seconds` or the address's timeout.

    Raises:
        psycopg.Error: the server did not take it, or not in time.
    """
    given = address.timeout.total_seconds() if seconds is None else seconds
    try:
        # The driver's own deadline is one for each address of each host, and none for finding these.
        async with asyncio.timeout(given):
            return await _connect(conninfo, address, pooler)
    except TimeoutError as error:
        raise psycopg.errors.ConnectionTimeout(f"not connected within {readable(given)}") from error


async def _connect(conninfo: str, address: Address, pooler: Pooler) -> Connection:
    wanted = conninfo_to_dict(conninfo)
    hosts = str(wanted.get("host") or "").count(",") + 1
    own: dict[str, Any] = {
        # Of several hosts each gets its turn before the deadline.
        "connect_timeout": max(_SHORTEST_CONNECT, int(address.timeout.total_seconds() / hosts)),
        # A peer that is gone without a word is noticed within half a minute also where nothing is sent.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "application_name": "deeper_tasks",
    }
    if pooler is Pooler.NONE:
        own["options"] = session.options(address, str(wanted.get("options") or ""))
        wanted.pop("options", None)
    wanted["client_encoding"] = "UTF8"
    connection = await AsyncConnection.connect(
        make_conninfo(**{**own, **wanted}),
        autocommit=True,
        # Through a pooler the next statement may meet another server process, which never heard of this one's.
        prepare_threshold=1 if pooler is Pooler.NONE else None,
    )
    if pooler is not Pooler.NONE:
        session.prepare(connection)
    return connection


class Connections:
    """
    The connections of a store, kept by event loop: one belongs to the loop that opened it.

    Safe to use from any number of threads and loops. The child of a fork
    leaves its parent's connections alone and opens its own. A connection that
    is refused for what its session is, is replaced, and all others with it.
    """

    def __init__(self, address: Address) -> None:
        self.renewal = Renewal()
        self._address = address
        self._seconds = address.timeout.total_seconds()
        self._is_closed = False
        self._shelves: dict[asyncio.AbstractEventLoop, _Shelf] = {}
        self._count()
        process_watch.add(self)

    def reopen(self) -> None:
        """Lend again, after `close`."""
        self._is_closed = False

    @asynccontextmanager
    async def lend(self, *, until: float | None = None, is_urgent: bool = False) -> AsyncIterator[Connection]:
        """
        Lend a connection that is alive as far as can be seen; one that is broken when it comes back is dropped.

        It is there by `until` (the loop's time), or within the address's timeout. What is urgent and what is not
        keep to different connections, as far as there are enough.

        Raises:
            BackendUnavailableError: all are in use, or the server does not take another.
            RenewedError: the server refused what was done for what the session is, and another is to be had.
        """
        process_watch.notice()
        if until is None:
            until = asyncio.get_running_loop().time() + self._seconds
        shelf = self._shelf()
        async with shelf.place(until):
            with self._counting:
                self._lent += 1
            connection, is_good = None, True
            try:
                connection = shelf.take(is_urgent=is_urgent)
                if connection is None:
                    generation = self.renewal.generation
                    connection = await self._open(until)
                    shelf.lent[connection] = generation
                yield connection
            except psycopg.Error as error:
                is_good = not is_of_lost_connection(error)
                if connection is not None and is_of_session(error) and self.renewal.refused(shelf.lent[connection]):
                    raise RenewedError from error
                raise
            finally:
                if connection is not None:
                    shelf.give_back(connection, is_wanted=is_good and not self._is_closed, is_urgent=is_urgent)
                with self._counting:
                    self._lent -= 1
                    while self._waiting and not self._lent:
                        self._waiting.pop().release()

    async def close(self) -> None:
        """Close all connections. Calls under way end first; those that do not within the timeout are broken off."""
        self._is_closed = True
        if self._lent:
            await run_in_thread(partial(self._wait_for_calls, self._seconds))
        for shelf in list(self._shelves.values()):
            shelf.clear()
            for connection in list(shelf.lent):
                cut(connection)
        self._shelves.clear()

    def forget_parent(self) -> None:
        """In the child of a fork: its parent's connections are not its own, and a lock may be held for ever."""
        self.renewal.forget_parent()
        for shelf in self._shelves.values():
            shelf.abandon()
        self._shelves = {}
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
                f"no connection to {self._address!r}: {first_line(error)}{way_out}"
            ) from error

    def _shelf(self) -> _Shelf:
        loop = asyncio.get_running_loop()
        shelf = self._shelves.get(loop)
        if shelf is None:
            with self._counting:
                for other in [other for other in self._shelves if other.is_closed()]:
                    self._shelves.pop(other).clear()
                shelf = self._shelves[loop] = _Shelf(self._address, self.renewal)
        return shelf


class _Shelf:
    """The connections of one event loop that nobody uses just now, and how many more there may be."""

    def __init__(self, address: Address, renewal: Renewal) -> None:
        self._address = address
        self._renewal = renewal
        self._idle: deque[tuple[Connection, int]] = deque()
        self.lent: dict[Connection, int] = {}
        """With the generation of each."""
        self._places = asyncio.Semaphore(address.pool_size)
        self._pid = os.getpid()

    def __del__(self) -> None:
        # Where nobody closed the store before its loop ended: there is nothing to wait for any more.
        if os.getpid() == self._pid:
            self.clear()

    @asynccontextmanager
    async def place(self, until: float) -> AsyncIterator[None]:
        if self._places.locked():
            asked_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(until):
                    await self._places.acquire()
            except TimeoutError as error:
                raise BackendUnavailableError(
                    f"all {self._address.pool_size} connections were in use for {readable(until - asked_at)}: "
                    f"raise pool_size in the store's URL, or do less at once"
                ) from error
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    def take(self, *, is_urgent: bool) -> Connection | None:
        # The one used last, at either end: those above what is needed grow old, and the server has fewer to look after.
        while self._idle:
            connection, generation = self._idle.pop() if is_urgent else self._idle.popleft()
            if generation == self._renewal.generation and not _is_cut(connection):
                self.lent[connection] = generation
                return connection
            _close(connection)
        return None

    def give_back(self, connection: Connection, *, is_wanted: bool, is_urgent: bool) -> None:
        generation = self.lent.pop(connection)
        status = connection.pgconn.transaction_status
        is_current = generation == self._renewal.generation
        if is_wanted and is_current and status == psycopg.pq.TransactionStatus.IDLE:
            if is_urgent:
                self._idle.append((connection, generation))
            else:
                self._idle.appendleft((connection, generation))
            return
        _close(connection)
        if status == psycopg.pq.TransactionStatus.UNKNOWN:
            # What broke this one has broken the others too, most likely, and not each may show it: a network that
            # is silent would cost a call's whole timeout for each of them.
            self.clear()

    def clear(self) -> None:
        while self._idle:
            _close(self._idle.pop()[0])

    def abandon(self) -> None:
        """
        Let go of all connections, those in use too: the calls under way never go on here.

        What Python does when it collects them must not reach the sockets, nor the
        selector that the parent waits with.
        """
        for connection in self.lent:
            abandon(connection)
        while self._idle:
            abandon(self._idle.pop()[0])


def cut(connection: BaseConnection[Any]) -> None:
    """End a connection whose server does not answer: whoever waits for it fails at once. Sends nothing."""
    with suppress(psycopg.Error, OSError), native.Socket(fileno=os.dup(connection.pgconn.socket)) as double:
        double.shutdown(socket.SHUT_RDWR)


def abandon(connection: BaseConnection[Any]) -> None:
    """Close a connection that a parent process goes on with: without a word to the server."""
    with suppress(psycopg.Error, OSError):
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, connection.pgconn.socket)
        native.close(descriptor)
    _close(connection)


def _is_cut(connection: Connection) -> bool:
    """Whether the server has said something since the last call: it speaks unasked only to say good-bye."""
    if connection.closed:
        return True
    poll = native.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _close(connection: BaseConnection[Any]) -> None:
    # Not the coroutine: the connection's loop may be closed, or not be this one.
    connection.pgconn.finish()
