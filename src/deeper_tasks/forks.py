"""Forks: makes a process that was forked drop the locks, threads and connections of its parent."""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet

from deeper_tasks import native


class Forkable(Protocol):
    """An object with locks, threads or connections, which a child process must not share with its parent."""

    def forget_parent(self) -> None:
        """Replace locks, threads and connections by new ones, without using the old; the child has one thread yet."""


class ProcessWatch:
    """
    Notices that this process was forked.

    Python calls hooks after its own forks. A fork by C code, such as uWSGI's, calls no hooks, so entry points of this
    package call `notice`, which compares the process id.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._forkables: WeakSet[Forkable] = WeakSet()
        self._locks: dict[int, native.Lock] = {}

    def add(self, forkable: Forkable) -> None:
        """Make an object forget the parent in each child of this process."""
        _watch_forks()
        self._forkables.add(forkable)

    def notice(self) -> None:
        """Make all objects forget the parent, once, if this process was forked; costs one system call."""
        pid = os.getpid()
        if pid == self.pid:
            return
        # Several threads of the child may come at once. A lock of the parent may be held forever in the child, so each
        # process has its own.
        with self._locks.setdefault(pid, native.allocate_lock()):
            if pid != self.pid:
                self.forget_parent()

    def forget_parent(self) -> None:
        """Make all objects forget the parent; call it in the child of a fork."""
        for each in list(self._forkables):
            each.forget_parent()
        self._locks = {}
        # Set last: other threads take the new process id as the sign that all objects have forgotten the parent.
        self.pid = os.getpid()


process_watch = ProcessWatch()


@cache
def _watch_forks() -> None:
    # A hook as well as `notice`: before the child's first call, its garbage collector may free objects of the parent's
    # calls, which would use the parent's sockets.
    os.register_at_fork(after_in_child=process_watch.forget_parent)
