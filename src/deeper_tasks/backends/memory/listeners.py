"""The listeners: the iterators that wait for hints, each on an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress

from deeper_tasks import native
from deeper_tasks.backends.protocol import Notification


class Listeners:
    """Sends hints to all listeners, from any thread. Equal hints that a listener has not read yet are one."""

    def __init__(self) -> None:
        self._lock = native.allocate_lock()
        self._inboxes: set[_Inbox] = set()

    def send(self, notifications: Sequence[Notification]) -> None:
        """Put hints into every inbox. Never raises and never waits."""
        if not notifications:
            return
        with self._lock:
            inboxes = list(self._inboxes)
        for inbox in inboxes:
            inbox.put(notifications)

    def close(self) -> None:
        """End every listener."""
        with self._lock:
            inboxes = list(self._inboxes)
        for inbox in inboxes:
            inbox.close()

    async def listen(self) -> AsyncIterator[Notification]:
        """Yield hints until this iterator or the backend is closed."""
        inbox = _Inbox(asyncio.get_running_loop())
        with self._lock:
            self._inboxes.add(inbox)
        try:
            while not inbox.is_closed:
                for notification in await inbox.take():
                    yield notification
        finally:
            with self._lock:
                self._inboxes.discard(inbox)


class _Inbox:
    """The unread hints of one listener."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_closed = False
        self._loop = loop
        self._has_mail = asyncio.Event()
        self._lock = native.allocate_lock()
        self._unread: dict[Notification, None] = {}

    def put(self, notifications: Iterable[Notification]) -> None:
        with self._lock:
            was_empty = not self._unread
            self._unread.update(dict.fromkeys(notifications))
        if was_empty:
            self._wake()

    def close(self) -> None:
        self.is_closed = True
        self._wake()

    async def take(self) -> list[Notification]:
        await self._has_mail.wait()
        self._has_mail.clear()
        with self._lock:
            unread, self._unread = list(self._unread), {}
        return unread

    def _wake(self) -> None:
        with suppress(RuntimeError):  # its loop has been closed: nothing reads this any more
            self._loop.call_soon_threadsafe(self._has_mail.set)
