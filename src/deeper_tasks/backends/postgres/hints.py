"""Hints between all processes that use a schema, sent as notifications of the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from deeper_tasks.backends.postgres.database import Database
from deeper_tasks.backends.postgres.listener import Listener, payload
from deeper_tasks.backends.postgres.sender import Sender
from deeper_tasks.backends.protocol import Notification
from deeper_tasks.forks import process_watch


class Hints:
    """
    The hints of a store: those that its event loops send, and those that its listeners hear.

    Nothing relies on a hint. A process that cannot hear hints sends them all the same: others may hear them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._senders: dict[asyncio.AbstractEventLoop, Sender] = {}
        self._listeners: set[Listener] = set()
        self._is_closed = True
        process_watch.add(self)

    def open(self) -> None:
        """Allow sending and listening from now on."""
        process_watch.notice()
        self._is_closed = False

    async def notify(self, hints: Sequence[Notification]) -> None:
        """Send hints soon. Never raises, and never waits for the database."""
        process_watch.notice()
        if self._is_closed:
            return
        if self._sender().put([payload(hint) for hint in hints]):
            # A task that has begun sends its hints even if its loop ends with this call.
            await asyncio.sleep(0)

    def may_leave(self, hints: Sequence[Notification]) -> bool:
        """
        Return whether the caller may send these hints itself now; then they count as sent.

        If not, the same hints were sent just before, and `notify` sends them when their time has come.
        """
        process_watch.notice()
        return not self._is_closed and self._sender().may_leave([payload(hint) for hint in hints])

    async def listen(self) -> AsyncIterator[Notification]:
        """
        Yield hints until closed; none if there is no way to hear them.

        Raises:
            BackendUnavailableError: the connection was lost, or there is none.
        """
        process_watch.notice()
        if self._is_closed or not self._database.address.can_listen:
            return
        listener = Listener(self._database.address, self._database.connections.renewal)
        self._listeners.add(listener)
        try:
            while not listener.is_ended:
                for hint in await listener.hear():
                    yield hint
        finally:
            self._listeners.discard(listener)
            listener.leave()

    async def close(self) -> None:
        """Send the last hints, within a limited time, and end the listeners of all event loops."""
        process_watch.notice()
        self._is_closed = True
        for listener in list(self._listeners):
            listener.end()
        own = self._senders.pop(asyncio.get_running_loop(), None)
        for other in list(self._senders.values()):
            other.finish_soon()
        self._senders.clear()
        if own is not None:
            await own.finish()

    def _sender(self) -> Sender:
        loop = asyncio.get_running_loop()
        sender = self._senders.get(loop)
        if sender is None:
            for other in list(self._senders):
                if other.is_closed():
                    self._senders.pop(other, None)
            sender = self._senders[loop] = Sender(self._database)
        return sender

    def forget_parent(self) -> None:
        """Drop the parent's senders and listeners, in the child of a fork: the parent goes on using them."""
        for listener in self._listeners:
            listener.drop()
        self._listeners = set()
        self._senders = {}
