"""The cancel of a statement: ends what a handler still does on its job's connection, so that the store can use it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

from deeper_tasks.backends.postgres.connecting import Connection, cut
from deeper_tasks.backends.postgres.connection_guard import Guarded, is_in_use

PAUSE = "SELECT pg_sleep(0.05)"
_BETWEEN_CANCELS = 0.05
_PATIENCE = 2.0
"""Seconds in which a cancelled statement has to end, before its connection is cut."""


class StatementCancel:
    """Cancels the statements under way on a handler's connection; `own` is the store's, over the same session."""

    def __init__(self, handlers: Guarded, own: Connection) -> None:
        self._handlers = handlers
        self._own = own
        self._loop = asyncio.get_running_loop()
        self._requests: set[asyncio.Task[None]] = set()
        self._was_sent = False

    def start(self) -> None:
        """Have the server cancel the statement that is under way, if there is one; in the event loop."""
        if is_in_use(self._handlers) and not self._requests:
            request = self._loop.create_task(self._send())
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)

    def start_from_any_thread(self) -> None:
        """Do the same, from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.start)

    async def wait(self) -> None:
        """Wait for the requests to cancel that are on their way to the server."""
        for request in tuple(self._requests):
            await asyncio.wait((request,))

    async def absorb(self) -> None:
        """
        Let a late cancel hit a pause of the store's own instead of its next statement.

        A request that was sent may reach the server after the handler's statement has ended.
        """
        while self._was_sent:
            await self._own.execute("SAVEPOINT deeper_pause")
            try:
                await self._own.execute(PAUSE)
                self._was_sent = False
            except psycopg.errors.QueryCanceled:
                await self._own.execute("ROLLBACK TO SAVEPOINT deeper_pause")

    async def stop_use(self) -> None:
        """End a statement that is still under way, for example in a thread that nothing stops."""
        until = self._loop.time() + _PATIENCE
        while is_in_use(self._handlers) and self._loop.time() < until:
            self.start()
            await asyncio.sleep(_BETWEEN_CANCELS)
        if is_in_use(self._handlers):
            # The handler was stopped in the middle of a COPY, or the server does not answer.
            cut(self._own)
            await asyncio.sleep(_BETWEEN_CANCELS)

    async def _send(self) -> None:
        self._was_sent = True
        with suppress(psycopg.Error, OSError):
            await self._own.cancel_safe(timeout=_PATIENCE)
