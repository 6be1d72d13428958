"""The connections of one event loop: those that are idle, those that are lent, and how many there may be."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.pq import TransactionStatus

from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.connecting import Connection, abandon, close, is_cut
from deeper_tasks.backends.postgres.renewal import Renewal
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendUnavailableError


class LoopConnections:
    """
    The connections of one event loop.

    Attributes:
        lent: the connections in use, each with the generation of sessions that it belongs to; see `Renewal`.
    """

    def __init__(self, address: Address, renewal: Renewal) -> None:
        self._address = address
        self._renewal = renewal
        self._idle: deque[tuple[Connection, int]] = deque()
        self.lent: dict[Connection, int] = {}
        self._free_places = asyncio.Semaphore(address.pool_size)
        self._pid = os.getpid()

    def __del__(self) -> None:
        # The loop has ended before the store was closed: there is nothing left to wait for.
        if os.getpid() == self._pid:
            self.clear()

    @asynccontextmanager
    async def place(self, until: float) -> AsyncIterator[None]:
        """
        Wait until one more connection may be in use, until the moment `until` by the loop's clock.

        Raises:
            BackendUnavailableError: all connections were in use all the time.
        """
        if self._free_places.locked():
            asked_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(until):
                    await self._free_places.acquire()
            except TimeoutError as error:
                raise BackendUnavailableError(
                    f"all {self._address.pool_size} connections were in use for {readable(until - asked_at)}: "
                    f"raise pool_size in the store's URL, or make fewer calls at once"
                ) from error
        else:
            await self._free_places.acquire()
        try:
            yield
        finally:
            self._free_places.release()

    def take(self, *, is_urgent: bool) -> Connection | None:
        """Take an idle connection that seems alive; None if there is none. Urgent calls and others rarely share one."""
        # The one that was used last, at either end: surplus connections stay idle, and few sessions are in use.
        while self._idle:
            connection, generation = self._idle.pop() if is_urgent else self._idle.popleft()
            if generation == self._renewal.generation and not is_cut(connection):
                self.lent[connection] = generation
                return connection
            close(connection)
        return None

    def give_back(self, connection: Connection, *, is_wanted: bool, is_urgent: bool) -> None:
        """Keep a connection for later, if it is wanted, in order and not outdated; close it otherwise."""
        generation = self.lent.pop(connection)
        status = connection.pgconn.transaction_status
        is_current = generation == self._renewal.generation
        if is_wanted and is_current and status == TransactionStatus.IDLE:
            if is_urgent:
                self._idle.append((connection, generation))
            else:
                self._idle.appendleft((connection, generation))
            return
        close(connection)
        if status == TransactionStatus.UNKNOWN:
            # The cause has probably broken the other connections too, and not each of them shows it: in a silent
            # network each would cost a call its whole timeout.
            self.clear()

    def clear(self) -> None:
        """Close the idle connections."""
        while self._idle:
            close(self._idle.pop()[0])

    def abandon(self) -> None:
        """
        Drop all connections, also those in use, in the child of a fork: their calls never go on here.

        When Python collects them, it must not reach the sockets or the selector that the parent uses.
        """
        for connection in self.lent:
            abandon(connection)
        while self._idle:
            abandon(self._idle.pop()[0])
