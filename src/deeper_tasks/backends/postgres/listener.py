"""A listener: hears the hints of a channel, on a connection of its own."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import psycopg

from deeper_tasks.backends.postgres.address import Address, Pooler
from deeper_tasks.backends.postgres.connecting import Connection, abandon, connect, cut
from deeper_tasks.backends.postgres.refusals import first_line, is_of_pooler
from deeper_tasks.backends.postgres.renewal import Renewal
from deeper_tasks.backends.protocol import Notification, Topic
from deeper_tasks.config import redacted
from deeper_tasks.errors import BackendUnavailableError

LISTEN = 'LISTEN "{channel}"'
PROBE = "SELECT 1"

_SILENCE = 10.0
"""Seconds without a hint after which the server is asked whether it is alive."""

MISSED = tuple(Notification(topic=topic) for topic in Topic)
"""Hints for everything: any hint may have been missed before the listening began."""


class Listener:
    """
    Hears the hints that are sent to an address, in the loop where it was made, until it is ended.

    When it begins to listen, it returns a hint for everything, because earlier hints were not heard. It connects again
    at each renewal: hints are sent on the server of the new sessions.
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
        Return the next hints; none after a long silence, or when the listener was ended.

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
        with suppress(RuntimeError):  # its loop is closed, and with it the connection
            self._loop.call_soon_threadsafe(self._interrupt)

    def drop(self) -> None:
        """Close the connection. In the child of a fork it is only dropped: the parent goes on using it."""
        connection, self._connection = self._connection, None
        if connection is not None and os.getpid() == self._pid:
            connection.pgconn.finish()
        elif connection is not None:
            abandon(connection)

    def leave(self) -> None:
        """Stop listening, in the listener's own loop."""
        self._renewal.leave(self)
        self.drop()

    @property
    def _is_outdated(self) -> bool:
        return self._generation != self._renewal.generation

    def _renew(self) -> None:
        with suppress(RuntimeError):  # its loop is closed, and with it the connection
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
        # Without a pooler, even if other connections use one: a connection lent for a transaction hears nothing.
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
        words = first_line(error, self._address)
        return BackendUnavailableError(f"no hints from {redacted(self._conninfo)!r}: {words}{way_out}")


def parse(payload: str) -> Notification | None:
    """Return the hint in a payload; None if it is not a hint of this library, or one of a later version."""
    topic, separator, subject = payload.partition(":")
    with suppress(ValueError):
        return Notification(topic=Topic(topic), subject=subject) if separator else None
    return None


def payload(hint: Notification) -> str:
    """Return the payload of a hint."""
    return f"{hint.topic}:{hint.subject}"
