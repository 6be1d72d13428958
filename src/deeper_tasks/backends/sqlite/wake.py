"""Wake: hints between the processes of one machine, as datagrams to a socket that each listener has beside the file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from deeper_tasks.backends.protocol import Notification

_LONGEST_SOCKET_PATH = 100
_LONGEST_NAME = len("/0123456789-01234567")
_LARGEST_DATAGRAM = 4096

_decoder = msgspec.json.Decoder(Notification)


class Wake:
    """
    The listeners of a database: a folder with one datagram socket each.

    Nothing here is relied upon. A socket that nobody reads any more is removed
    by the first who cannot reach it; a full one has hints enough already.
    """

    def __init__(self, database: Path) -> None:
        self._folder = _folder(database)
        self._closing: set[asyncio.Event] = set()

    def notify(self, notifications: Sequence[Notification]) -> None:
        """Send hints to every listener. Never blocks and never raises."""
        try:
            sockets = list(self._folder.iterdir())
        except OSError:
            return
        if not sockets:
            return
        datagrams = [msgspec.json.encode(notification) for notification in notifications]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for path in sockets:
                _send(sender, path, datagrams)

    async def listen(self) -> AsyncIterator[Notification]:
        """Yield hints until closed."""
        path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        with suppress(OSError):
            self._folder.mkdir(mode=0o777, parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.setblocking(False)
            try:
                receiver.bind(str(path))
            except OSError:
                # Without a socket there are no hints: polling alone is correct.
                await self._wait_for_close()
                return
            try:
                async for notification in self._receive(receiver):
                    yield notification
            finally:
                with suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """End all that listen. To be called in the loop of each listener, or when none runs any more."""
        for closing in self._closing:
            closing.set()

    async def _receive(self, receiver: socket.socket) -> AsyncIterator[Notification]:
        loop = asyncio.get_running_loop()
        closing = asyncio.create_task(self._wait_for_close())
        try:
            while not closing.done():
                receiving = asyncio.create_task(loop.sock_recv(receiver, _LARGEST_DATAGRAM))
                await asyncio.wait({closing, receiving}, return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():
                    receiving.cancel()
                    return
                with suppress(msgspec.DecodeError):
                    yield _decoder.decode(receiving.result())
        finally:
            closing.cancel()

    async def _wait_for_close(self) -> None:
        closing = asyncio.Event()
        self._closing.add(closing)
        try:
            await closing.wait()
        finally:
            self._closing.discard(closing)


def _folder(database: Path) -> Path:
    beside = database.absolute().with_name(f"{database.name}-wake")
    if len(os.fsencode(beside)) + _LONGEST_NAME <= _LONGEST_SOCKET_PATH:
        return beside
    # A socket's path is short: where the database's is not, all its processes find this one instead.
    digest = hashlib.sha256(os.fsencode(database.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"deeper-{os.getuid()}-{digest}"


def _send(sender: socket.socket, path: Path, datagrams: Sequence[bytes]) -> None:
    try:
        for datagram in datagrams:
            sender.sendto(datagram, str(path))
    except ConnectionRefusedError:
        with suppress(OSError):
            path.unlink()
    except OSError:
        return
