"""The write lock: the processes that write to one database take turns by it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeper_tasks import native
from deeper_tasks.backends.sqlite.companion_files import open_beside
from deeper_tasks.backends.sqlite.obstacles import obstacle
from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendUnavailableError

_SHORTEST_WAIT, _LONGEST_WAIT = 0.0001, 0.002


class WriteLock:
    """
    Two file locks beside the database: the process that holds `write` may write; the one that holds `next` is next.

    SQLite's busy handler sleeps longer each time, so a process that writes without a pause starves the others. Here
    the waiting process holds `next`, which the writing process needs for its next turn: they alternate. A checkpoint
    happens within the turn as well, so the race of SQLite 3.7 to 3.51.2 between a checkpoint and a commit of another
    connection cannot happen between turns.

    The locks end with the process that holds them. `line` names another line at the same database, for writers that
    first take turns among themselves. The files have the owner and the mode of the database.
    """

    def __init__(self, database: Path, *, timeout: float, line: str = "") -> None:
        self._database = database
        self._timeout = timeout
        self._line = line
        self._next, self._write = self._open()

    @contextmanager
    def turn(self, *, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """
        Hold the right to write.

        Raises:
            BackendUnavailableError: the turn did not come within the timeout, or is not wanted any more.
        """
        deadline = time.monotonic() + self._timeout
        self._wait(deadline, is_wanted)
        while self._were_removed():
            # A process that came later has made new lock files.
            removed = self._next, self._write
            self._next, self._write = self._open()
            _close(*removed)
            self._wait(deadline, is_wanted)
        try:
            yield
        finally:
            fcntl.flock(self._write, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files; they stay for other processes."""
        _close(self._next, self._write)

    def _wait(self, deadline: float, is_wanted: Callable[[], bool]) -> None:
        self._lock(self._next, deadline, is_wanted)
        try:
            self._lock(self._write, deadline, is_wanted)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)

    def _were_removed(self) -> bool:
        return not (os.fstat(self._next).st_nlink and os.fstat(self._write).st_nlink)

    def _open(self) -> tuple[int, int]:
        following = self._opened("next")
        try:
            return following, self._opened("write")
        except BaseException:
            _close(following)
            raise

    def _opened(self, name: str) -> int:
        try:
            return open_beside(self._database, f"-{self._line}{name}")
        except OSError as error:
            found = obstacle(self._database)
            message = f"the database {str(self._database)!r} cannot be written: {error}"
            raise BackendUnavailableError(message if found is None else found.of(self._database)) from error

    def _lock(self, descriptor: int, deadline: float, is_wanted: Callable[[], bool]) -> None:
        wait = _SHORTEST_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_wanted():
                    raise BackendUnavailableError("the caller does not wait for its turn any more") from None
                if time.monotonic() >= deadline:
                    raise BackendUnavailableError(
                        f"the database {str(self._database)!r} was locked by another process "
                        f"for longer than {readable(self._timeout)}"
                    ) from None
                native.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                return


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            native.close(descriptor)
