"""The connections of a process to the database: a few for each of its event loops, lent for one call at a time."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deeper_tasks.aside import run_aside
from deeper_tasks.backends.postgres import session
from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.refusals import POOLER_WAY_OUT, first_line, is_of_pooler
from deeper_tasks.errors import BackendUnavailableError

Connection = AsyncConnection[tuple[Any, ...]]

_SHORTEST_CONNECT = 2
"""Seconds; libpq takes fewer for more."""


async def connect(conninfo: str, *, address: Address, pooler: Pooler) -> Connection:
    """Open a connection as this store wants it, by way of a pooler or none."""
    wanted = conninfo_to_dict(conninfo)
    own: dict[str, Any] = {
        "connect_timeout": max(_SHORTEST_CONNECT, int(address.timeout.total_seconds())),
        # A peer that is gone without a word is noticed within half a minute also where nothing is sent.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
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

    Safe to use from any number of threads and loops. A fork is noticed: the
    child leaves its parent's connections alone and opens its own.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._shelves: dict[asyncio.AbstractEventLoop, _Shelf] = {}
        self._changed = threading.Condition()
        self._lent = 0
        self._is_closed = False
        self._pid = os.getpid()

    def reopen(self) -> None:
        """Lend again, after `close`."""
        self._forget_parent()
        self._is_closed = False

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """
        Lend a connection that is alive as far as can be seen; one that is broken when it comes back is dropped.

        Raises:
            BackendUnavailableError: all are in use, or the server does not take another.
        """
        self._forget_parent()
        shelf = self._shelf()
        async with shelf.place():
            with self._changed:
                self._lent += 1
            connection = None
            try:
                connection = shelf.take() or await self._open()
                yield connection
            finally:
                if connection is not None:
                    shelf.give_back(connection, is_wanted=not self._is_closed)
                with self._changed:
                    self._lent -= 1
                    self._changed.notify_all()

    async def close(self) -> None:
        """Close all connections; calls under way end first."""
        self._forget_parent()
        self._is_closed = True
        seconds = self._address.timeout.total_seconds()
        if self._lent:
            await run_aside(partial(self._wait_for_calls, seconds))
        for shelf in list(self._shelves.values()):
            shelf.clear()
        self._shelves.clear()

    def _wait_for_calls(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._lent, seconds)

    async def _open(self) -> Connection:
        try:
            return await connect(self._address.conninfo, address=self._address, pooler=self._address.pooler)
        except psycopg.Error as error:
            way_out = f"; {POOLER_WAY_OUT}" if is_of_pooler(error) else ""
            raise BackendUnavailableError(
                f"no connection to {self._address!r}: {first_line(error)}{way_out}"
            ) from error

    def _shelf(self) -> _Shelf:
        loop = asyncio.get_running_loop()
        shelf = self._shelves.get(loop)
        if shelf is None:
            with self._changed:
                for other in [other for other in self._shelves if other.is_closed()]:
                    self._shelves.pop(other).clear()
                shelf = self._shelves[loop] = _Shelf(self._address)
        return shelf

    def _forget_parent(self) -> None:
        if os.getpid() == self._pid:
            return
        # Their sockets are the parent's too: to say good-bye on them would end its sessions.
        for shelf in self._shelves.values():
            shelf.abandon()
        self._shelves = {}
        self._changed = threading.Condition()
        self._lent = 0
        self._pid = os.getpid()


class _Shelf:
    """The connections of one event loop that nobody uses just now, and how many more there may be."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: deque[Connection] = deque()
        self._places = asyncio.Semaphore(address.pool_size)
        self._pid = os.getpid()

    def __del__(self) -> None:
        # Where nobody closed the store before its loop ended: there is nothing to wait for any more.
        if os.getpid() == self._pid:
            self.clear()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        seconds = self._address.timeout.total_seconds()
        if self._places.locked():
            try:
                async with asyncio.timeout(seconds):
                    await self._places.acquire()
            except TimeoutError as error:
                raise BackendUnavailableError(
                    f"all {self._address.pool_size} connections were in use for {seconds:g} seconds: "
                    f"raise pool_size in the store's URL, or do less at once"
                ) from error
        else:
            await self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    def take(self) -> Connection | None:
        # The one used last: those above what is needed grow old, and the server has fewer to look after.
        while self._idle:
            connection = self._idle.pop()
            if not _is_cut(connection):
                return connection
            _close(connection)
        return None

    def give_back(self, connection: Connection, *, is_wanted: bool) -> None:
        is_idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if is_wanted and is_idle:
            self._idle.append(connection)
        else:
            _close(connection)

    def clear(self) -> None:
        while self._idle:
            _close(self._idle.pop())

    def abandon(self) -> None:
        """Close the sockets without a word to the server."""
        while self._idle:
            abandon(self._idle.pop())


def cut(connection: Connection) -> None:
    """End a connection whose server does not answer: whoever waits for it fails at once. Sends nothing."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as double:
        double.shutdown(socket.SHUT_RDWR)


def abandon(connection: Connection) -> None:
    """Close a connection that a parent process goes on with: without a word to the server."""
    with suppress(psycopg.Error, OSError):
        descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, connection.pgconn.socket)
        os.close(descriptor)
    _close(connection)


def _is_cut(connection: Connection) -> bool:
    """Whether the server has said something since the last call: it speaks unasked only to say good-bye."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _close(connection: Connection) -> None:
    # Not the coroutine: the connection's loop may be closed, or not be this one.
    connection.pgconn.finish()
