"""A listener: hears the hints of a channel, on a connection of its own."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import psycopg

from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.connections import Connection, abandon, connect, cut
from deeper_tasks.backends.postgres.refusals import first_line, is_of_pooler
from deeper_tasks.backends.postgres.renewal import Renewal
from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.config import redacted
from deeper_tasks.errors import BackendUnavailableError

LISTEN = 'LISTEN "{channel}"'
PROBE = "SELECT 1"

_SILENCE = 10.0
"""Seconds without a hint after which the server is asked for a sign of life."""

MISSED = tuple(Notification(topic=topic) for topic in Topic)
"""What may have been hinted at while nobody listened: everything."""


class Listener:
    """
    Hears the hints that are sent to an address, in the loop where it was made, until it is ended.

    When it begins to listen it tells of everything once, because what was sent before
    was not heard. It connects anew at each renewal: hints are sent on the server that the
    new sessions are on.
    """

    def __init__(self, address: Address, renewal: Renewal) -> None:
        self._address = address
        self._renewal = renewal
        self._conninfo = address.listen_conninfo or address.conninfo
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._connection: Connection | None = None
        self._scope: asyncio.Timeout | None = None
        self._generation = renewal.generation
        self.is_ended = False
        renewal.listen(self, self._renew)

    async def hear(self) -> list[Notification]:
        """
        Return the next hints; none, when the silence was long, or all is ended.

        Raises:
            BackendUnavailableError: the connection was lost, or there is none.
        """
        try:
            async with asyncio.timeout(None) as self._scope:
                if self._is_outdated:
                    self.drop()
                if self._connection is None:
                    return await self._begin()
                return await self._receive(self._connection)
        except (psycopg.Error, OSError, UnicodeError) as error:
            self.drop()
            if not (self.is_ended or self._is_outdated):
                raise self._deaf(error) from error
        finally:
            self._scope = None
        return []

    def end(self) -> None:
        """End the listening; from any thread."""
        self.is_ended = True
        with suppress(RuntimeError):  # its loop has been closed, and the connection with it
            self._loop.call_soon_threadsafe(self._interrupt)

    def drop(self) -> None:
        """Close the connection. In the child of a fork it is the parent's, and goes on."""
        connection, self._connection = self._connection, None
        if connection is not None and os.getpid() == self._pid:
            connection.pgconn.finish()
        elif connection is not None:
            abandon(connection)

    def leave(self) -> None:
        """Hear nothing any more, in the listener's own loop."""
        self._renewal.leave(self)
        self.drop()

    @property
    def _is_outdated(self) -> bool:
        return self._generation != self._renewal.generation

    def _renew(self) -> None:
        with suppress(RuntimeError):  # its loop has been closed, and the connection with it
            self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        if self._connection is not None:
            cut(self._connection)

    def _interrupt(self) -> None:
        if self._connection is not None:
            cut(self._connection)
        elif self._scope is not None:
            self._scope.reschedule(self._loop.time())

    async def _begin(self) -> list[Notification]:
        self._generation = self._renewal.generation
        # Whatever the others go through: where only a transaction's connection is lent, nobody hears anything.
        self._connection = await connect(self._conninfo, address=self._address, pooler=Pooler.NONE)
        await self._ask(self._connection, LISTEN.format(channel=self._address.channel))
        return list(MISSED)

    async def _receive(self, connection: Connection) -> list[Notification]:
        heard = [notify.payload async for notify in connection.notifies(timeout=_SILENCE, stop_after=1)]
        if not heard:
            await self._ask(connection, PROBE)
        return [hint for hint in map(parse, heard) if hint is not None]

    async def _ask(self, connection: Connection, statement: str) -> None:
        timer = self._loop.call_later(self._address.timeout.total_seconds(), cut, connection)
        try:
            await connection.execute(statement)
        finally:
            timer.cancel()

    def _deaf(self, error: Exception) -> BackendUnavailableError:
        way_out = "; give a listen_url that leads around the pooler, or none" if is_of_pooler(error) else ""
        return BackendUnavailableError(f"no hints from {redacted(self._conninfo)!r}: {first_line(error)}{way_out}")


def parse(payload: str) -> Notification | None:
    """Return the hint that a payload is; None for what is none of ours, or of a later version."""
    topic, separator, subject = payload.partition(":")
    with suppress(ValueError):
        return Notification(topic=Topic(topic), subject=subject) if separator else None
    return None


def payload(hint: Notification) -> str:
    """Return a hint as it travels."""
    return f"{hint.topic}:{hint.subject}"
