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
    The listeners of a database: a folder with one datagram socket each.

    Nothing here is relied upon. A socket that nobody reads any more is removed
    by the first who cannot reach it; a full one has hints enough already.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._folder = _folder(database)
        self._is_elsewhere = self._folder.parent != database.absolute().parent
        self._listeners: set[_Listener] = set()

    def notify(self, notifications: Sequence[Notification]) -> None:
        """Send hints to every listener. Never blocks and never raises."""
        if not notifications:
            return
        try:
            # Below the temporary folder others may write: what is not ours is not spoken to.
            if self._is_elsewhere and self._folder.stat().st_uid != os.getuid():
                return
            sockets = list(self._folder.iterdir())
        except OSError:
            return
        if not sockets:
            return
        datagrams = [msgspec.json.encode(notification) for notification in notifications]
        # Without a descriptor left nobody is told, and what was written stays written.
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
        """End all that listen, in whatever loop they do."""
        for listener in list(self._listeners):
            listener.close()

    def _bind(self, receiver: native.Socket) -> Path | None:
        """Give the socket its place in the folder. Without one there are no hints, and polling alone is correct."""
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
                # Another user's. One that a killed process of root has left empty can go.
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
    """One who reads a socket, in the loop where it began to."""

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
    # A socket's path is short: where the database's is not, all its processes find this one instead.
    digest = hashlib.sha256(os.fsencode(database.absolute())).hexdigest()[:16]
    try:
        return Path(tempfile.gettempdir()) / f"{_prefix_elsewhere()}{digest}"
    except OSError:
        # No temporary folder can be written. Without hints, polling alone is correct.
        return beside


def _sweep_elsewhere() -> None:
    """
    Remove what killed processes left below the temporary folder, for whatever database.

    One that is never used again has nobody else to notice it. Whether a socket is
    read is asked of the socket: a process may live in another container.
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
    """Remove a socket, and the folder when it was the last."""
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()
