"""Forks: a process that finds that it was forked lets go of all that is its parent's."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet

from deeper_tasks import native


class Forkable(Protocol):
    """An object that holds what a child must not share with its parent: locks, threads, connections."""

    def forget_parent(self) -> None:
        """In a child that has one thread so far: take new ones, and let go of the parent's without using them."""


class ProcessWatch:
    """
    Notices that this process is another than before.

    Python tells of the forks that it makes itself. One that C code makes (uWSGI's)
    runs no hooks, so each entry compares the process id, as `notice` does.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._forkables: WeakSet[Forkable] = WeakSet()
        self._locks: dict[int, native.Lock] = {}

    def add(self, forkable: Forkable) -> None:
        """Have an object forget the parent in each child of this process."""
        _watch_forks()
        self._forkables.add(forkable)

    def notice(self) -> None:
        """Have all objects forget the parent, once, if this process was forked since; costs a call of the system."""
        pid = os.getpid()
        if pid == self.pid:
            return
        # One for each process: the parent's may be held here for ever. Several of the child's threads may come at once.
        with self._locks.setdefault(pid, native.allocate_lock()):
            if pid != self.pid:
                self.forget_parent()

    def forget_parent(self) -> None:
        """In the child of a fork: have all objects forget the parent."""
        for each in list(self._forkables):
            each.forget_parent()
        self._locks = {}
        # Last: until then no other thread may think it done.
        self.pid = os.getpid()


process_watch = ProcessWatch()


@cache
def _watch_forks() -> None:
    # Also at the fork, and not only at the child's first call: before it, what the child collects of its parent's
    # calls would reach for their sockets.
    os.register_at_fork(after_in_child=process_watch.forget_parent)
