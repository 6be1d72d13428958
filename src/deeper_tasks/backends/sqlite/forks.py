"""The forks: what lets go of the database while this process forks."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Holder(Protocol):
    """What holds connections and lock files in this process."""

    def expect_fork(self) -> None:
        """Begin to let go; what only the forking thread itself could end must end now."""

    def hold(self) -> None:
        """Let go of them, after what is under way, and do no more until `go_on`."""

    def go_on(self) -> None:
        """Work again."""


class ForkLock:
    """Held while this process forks: who holds it is not copied half-way. The child has it anew, and free."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_forking = False
        self._watched: WeakSet[Holder] = WeakSet()
        self._held: list[Holder] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def watch(self, holder: Holder) -> None:
        """Have a holder let go at each fork of this process; the child knows nothing of it."""
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
        # A fork that had begun when its watch was set up has held nothing.
        if self._is_forking:
            self._is_forking = False
            while self._held:
                self._held.pop().go_on()
            self._lock.release()

    def forget_all(self) -> None:
        """After the fork, in the child."""
        self._lock = threading.RLock()
        self._is_forking = False
        self._held.clear()
        self._watched.clear()


fork_lock = ForkLock()


def watch_forks() -> None:
    """
    Let no connection and no lock file be open while this process forks.

    SQLite keeps in memory which locks the process has on a file; a child would
    inherit the belief and not the locks, and lose what it commits once the
    parent has closed. Through an inherited lock file it would hold the parent's turn.
    """
    with fork_lock:
        _watch_forks()


@cache
def _watch_forks() -> None:
    os.register_at_fork(before=fork_lock.hold_all, after_in_parent=fork_lock.go_on, after_in_child=fork_lock.forget_all)
