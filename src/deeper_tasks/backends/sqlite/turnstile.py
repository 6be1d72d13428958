"""The turnstile: lets the writing processes of one database in one after the other, in turn."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import BackendUnavailableError

_SHORTEST_WAIT, _LONGEST_WAIT = 0.0001, 0.002


class Turnstile:
    """
    Two file locks beside the database: who holds `write` may write, who holds `next` is the next.

    SQLite's busy handler sleeps ever longer, so a process that writes without a
    pause starves the others. Here the waiting one holds `next`, which the
    writing one needs to come back: they alternate. As a checkpoint happens
    within the turn as well, the race of SQLite 3.7 to 3.51.2 between a
    checkpoint and another connection's commit cannot happen between turns.

    The locks end with the process that holds them. `line` names a line of its
    own at the same database, for those who take turns among themselves.
    """

    def __init__(self, database: Path, *, timeout: float, line: str = "") -> None:
        self._database = database
        self._timeout = timeout
        self._next = self._open(f"{line}next")
        self._write = self._open(f"{line}write")

    @contextmanager
    def turn(self, *, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """
        Hold the right to write.

        Raises:
            BackendUnavailableError: it did not come within the timeout, or is not wanted any more.
        """
        deadline = time.monotonic() + self._timeout
        self._lock(self._next, deadline, is_wanted)
        try:
            self._lock(self._write, deadline, is_wanted)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._write, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files; they stay for other processes."""
        for descriptor in (self._next, self._write):
            with suppress(OSError):
                os.close(descriptor)

    def _open(self, suffix: str) -> int:
        path = self._database.with_name(f"{self._database.name}-{suffix}")
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise BackendUnavailableError(f"the database {str(self._database)!r} cannot be written: {error}") from error

    def _lock(self, descriptor: int, deadline: float, is_wanted: Callable[[], bool]) -> None:
        wait = _SHORTEST_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_wanted():
                    raise BackendUnavailableError("the caller that waited for this turn has gone") from None
                if time.monotonic() >= deadline:
                    raise BackendUnavailableError(
                        f"the database {str(self._database)!r} was locked by another process "
                        f"for longer than {readable(self._timeout)}"
                    ) from None
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                return
