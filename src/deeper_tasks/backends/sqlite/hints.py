"""Hints between the processes of one machine: datagrams to a socket that each listener has beside the file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import msgspec

from deeper_tasks import native
from deeper_tasks.backends.protocol import Notification
from deeper_tasks.backends.sqlite.companion_files import HINTS, give_beside

_LONGEST_SOCKET_PATH = 100
_LONGEST_NAME = len("/0123456789-01234567")
_LARGEST_DATAGRAM = 4096
_TRIES = 3

_decoder = msgspec.json.Decoder(Notification)


class Hints:
    """
    The listeners of a database: a folder with one datagram socket for each.

    No part of the store relies on hints. A socket without a reader is removed by the first sender that cannot reach
    it. A socket that is full has hints enough already.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._folder = _folder(database)
        self._is_elsewhere = self._folder.parent != database.absolute().parent
        self._listeners: set[_Listener] = set()

    def notify(self, notifications: Sequence[Notification]) -> None:
        """Send hints to every listener. Never waits and never raises."""
        if not notifications:
            return
        try:
            # Other users may write below the temporary folder: a folder of another user gets no hints.
            if self._is_elsewhere and self._folder.stat().st_uid != os.getuid():
                return
            sockets = list(self._folder.iterdir())
        except OSError:
            return
        if not sockets:
            return
        datagrams = [msgspec.json.encode(notification) for notification in notifications]
        # Without a free descriptor no hint is sent, and the change of the jobs stays committed.
        with suppress(OSError), native.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for path in sockets:
                _send(sender, path, datagrams)

    async def listen(self) -> AsyncIterator[Notification]:
        """Yield hints until closed."""
        with native.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.setblocking(False)
            path = self._bind(receiver)
            listener = _Listener(receiver)
            self._listeners.add(listener)
            try:
                async with aclosing(listener.hear()) as heard:
                    async for notification in heard:
                        yield notification
            finally:
                self._listeners.discard(listener)
                if path is not None:
                    _remove(path)

    def close(self) -> None:
        """End all listeners, in whatever event loops they are."""
        for listener in list(self._listeners):
            listener.close()

    def _bind(self, receiver: native.Socket) -> Path | None:
        """Bind the socket to a path in the folder; None: that failed, there are no hints, and polling is enough."""
        if self._is_elsewhere:
            _sweep_elsewhere()
        path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        for _ in range(_TRIES):
            try:
                self._make_folder()
                receiver.bind(str(path))
            except FileNotFoundError:
                # The last listener of another process removed the folder in between.
                continue
            except PermissionError:
                # The folder is another user's. If a killed process of root has left it empty, it can be removed.
                with suppress(OSError):
                    self._folder.rmdir()
                    continue
                return None
            except OSError:
                return None
            if not self._is_elsewhere:
                give_beside(self._database, path)
            return path
        return None

    def _make_folder(self) -> None:
        """Make the folder: beside the database with its owner and mode, elsewhere for this user alone."""
        self._folder.mkdir(mode=0o700 if self._is_elsewhere else 0o777, exist_ok=True)
        if not self._is_elsewhere:
            give_beside(self._database, self._folder)


class _Listener:
    """A reader of a socket, in the event loop in which it began to read."""

    def __init__(self, receiver: native.Socket) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._is_closed = False

    async def hear(self) -> AsyncGenerator[Notification, None]:
        self._loop.add_reader(self._receiver, self._awake.set)
        try:
            while not self._is_closed:
                await self._awake.wait()
                self._awake.clear()
                for notification in self._received():
                    yield notification
        finally:
            self._loop.remove_reader(self._receiver)

    def close(self) -> None:
        self._is_closed = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._awake.set)

    def _received(self) -> Iterator[Notification]:
        while not self._is_closed:
            try:
                datagram = self._receiver.recv(_LARGEST_DATAGRAM)
            except OSError:
                return
            with suppress(msgspec.DecodeError):
                yield _decoder.decode(datagram)


def _folder(database: Path) -> Path:
    beside = database.absolute().with_name(f"{database.name}{HINTS}")
    if len(os.fsencode(beside)) + _LONGEST_NAME <= _LONGEST_SOCKET_PATH:
        return beside
    # The path of a socket must be short. Where the database's is too long, all its processes use this one instead.
    digest = hashlib.sha256(os.fsencode(database.absolute())).hexdigest()[:16]
    try:
        return Path(tempfile.gettempdir()) / f"{_prefix_elsewhere()}{digest}"
    except OSError:
        # No temporary folder is writable. Without hints, polling alone is correct.
        return beside


def _sweep_elsewhere() -> None:
    """
    Remove the sockets of killed processes below the temporary folder, of any database.

    No other process would remove those of a database that is never used again. Whether a socket has a reader is
    tested by connecting to it, because its process may live in another container.
    """
    with suppress(OSError), native.Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        for folder in Path(tempfile.gettempdir()).glob(f"{_prefix_elsewhere()}*"):
            with suppress(OSError):
                status = folder.lstat()
                if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                    for path in list(folder.iterdir()):
                        _remove_if_deaf(path, probe)
                    folder.rmdir()


def _prefix_elsewhere() -> str:
    return f"deeper-{os.getuid()}-"


def _remove_if_deaf(path: Path, probe: native.Socket) -> None:
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        _remove(path)


def _send(sender: native.Socket, path: Path, datagrams: Sequence[bytes]) -> None:
    try:
        for datagram in datagrams:
            sender.sendto(datagram, str(path))
    except ConnectionRefusedError:
        _remove(path)
    except OSError:
        return


def _remove(path: Path) -> None:
    """Remove a socket, and the folder if it was the last."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()
