"""Turns: the uses of one thing, which may stand in each other, but not overlap in tasks or threads at the same time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from deeper_tasks.errors import DeeperTasksError

_within: ContextVar[tuple[_Turn, ...]] = ContextVar("deeper_tasks_turns", default=())


class OverlapError(DeeperTasksError, RuntimeError):
    """Two tests that run at the same time in one process use the same manager."""


class Turns:
    """The turns of one thing that have begun and not ended."""

    def __init__(self, refusal: str) -> None:
        """Refuse an overlap with the message `refusal`."""
        self._refusal = refusal
        self._turns: list[_Turn] = []
        self._lock = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """
        Hold a turn inside the `with`. Turns may end in another order than they began in.

        Raises:
            OverlapError: an asyncio task or a thread that still runs has a turn, and this code is not part of it.
        """
        with self._lock:
            if not all(turn.encloses_caller() for turn in self._turns):
                raise OverlapError(self._refusal)
            turn = _Turn()
            self._turns.append(turn)
        _within.set((*_within.get(), turn))
        try:
            yield
        finally:
            with self._lock:
                self._turns.remove(turn)
            # A fixture may end in another context than it began in, so a token of `set` cannot be used.
            _within.set(tuple(other for other in _within.get() if other is not turn))


class _Turn:
    """One turn, with the thread and the asyncio task in which it began."""

    def __init__(self) -> None:
        self._thread = threading.current_thread()
        self._task = _current_task()

    def encloses_caller(self) -> bool:
        """Return whether the caller is part of this turn, or comes after the code that began it."""
        if self in _within.get():
            return True
        if self._thread is not threading.current_thread():
            return not self._thread.is_alive()
        return self._task is None or self._task.done() or self._task is _current_task()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
