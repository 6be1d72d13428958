"""Forks: the parts of this process that use a database let go of it while the process forks."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from deeper_tasks import native
from deeper_tasks.errors import BackendError
from deeper_tasks.forks import process_watch

_SHARED_BYTES = (0x40000002, 510)
"""The first byte and the number of bytes of the lock that each connection in WAL mode holds on its file."""
_TRIES, _PAUSE = 50, 0.002


class Holder(Protocol):
    """A part of this process that holds connections and lock files."""

    def expect_fork(self) -> None:
        """Begin to let go; end now anything that only the forking thread itself could end."""

    def hold(self) -> None:
        """Let go of them after the operations under way, and do no more until `go_on`."""

    def go_on(self) -> None:
        """Work again."""

    def leave_to_parent(self) -> Path | None:
        """
        In the child of a fork that the parent did not wait for: close this process's copies of the open files.

        Returns the database that this process cannot use, because an operation was under way there.
        """


class ForkLock:
    """The lock held while this process forks: its holder is never copied half-way. The child has a new, free one."""

    def __init__(self) -> None:
        self._lock = native.RLock()
        self._is_forking = False
        self._watched: WeakSet[Holder] = WeakSet()
        self._held: list[Holder] = []
        self._lost: frozenset[Path] = frozenset()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def watch(self, holder: Holder) -> None:
        """Have a holder let go at each fork of this process. The child forgets the holder."""
        watch_forks()
        with self:
            self._watched.add(holder)

    def hold_all(self) -> None:
        """Before a fork: have all holders let go of the database, and wait."""
        self._lock.acquire()
        self._is_forking = True
        holders = list(self._watched)
        for holder in holders:
            holder.expect_fork()
        for holder in holders:
            holder.hold()
            self._held.append(holder)

    def go_on(self) -> None:
        """After the fork, in the parent."""
        # Where the watch was set up during a fork, no holder has let go.
        if self._is_forking:
            self._is_forking = False
            while self._held:
                self._held.pop().go_on()
            self._lock.release()

    def forget_parent(self) -> None:
        """
        After the fork, in the child.

        Where the fork ran no hooks, no holder has let go. SQLite believes that this process holds the parent's locks
        as long as its copy of a connection is open, so all copies are closed. A copy that another thread of the parent
        used at that moment can never be closed: its mutexes stay locked.
        """
        self._lock = native.RLock()
        self._is_forking = False
        open_still = [holder for holder in self._watched if holder not in self._held]
        self._held.clear()
        self._watched.clear()
        self._lost |= {path for holder in open_still if (path := holder.leave_to_parent()) is not None}

    def check(self, path: Path) -> None:
        """Raise BackendError if this process cannot use a database, because of how it was forked."""
        if path in self._lost:
            raise BackendError(
                f"this process cannot use the database {str(path)!r}: it was forked without at-fork hooks, in "
                "the middle of an operation on the database; start the process again, and use the store only after "
                "forks (uWSGI: --lazy-apps)"
            )


fork_lock = ForkLock()


def watch_forks() -> None:
    """
    Let no connection and no lock file be open while this process forks.

    SQLite keeps in memory which locks the process has on a file. A child would inherit this memory and not the
    locks, and lose its commits once the parent has closed. By an inherited lock file it would hold the parent's turn.
    """
    process_watch.notice()
    with fork_lock:
        _watch_forks()


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=fork_lock.hold_all, after_in_parent=fork_lock.go_on)
    process_watch.add(fork_lock)


@contextmanager
def not_the_last(database: Path) -> Iterator[None]:
    """
    Keep a connection that is closed meanwhile from being the last one to its file, where the system can.

    The last connection empties the write-ahead log and deletes it. A copy of the parent's is in no state to do that.
    """
    try:
        descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it was removed, which SQLite notices too
        yield
        return
    try:
        _lock_shared(descriptor)
        yield
    finally:
        native.close(descriptor)


def _lock_shared(descriptor: int) -> None:
    """Lock as a connection does, but by the descriptor: such a lock also counts against SQLite in this process."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return
    lock = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, *_SHARED_BYTES, 0)
    for _ in range(_TRIES):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
            return
        # Another process is closing the last connection.
        native.sleep(_PAUSE)
