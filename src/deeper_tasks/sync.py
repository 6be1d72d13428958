"""Sync: blocking calls of the async facade, by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class LoopThread:
    """
    An event loop in a thread, started at the first call.

    Callers may stand inside a running loop of their own, which they then block.
    After a fork the child starts its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine to its end and return its result, or raise what it raised."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running_loop()).result()

    @property
    def is_running(self) -> bool:
        """Whether a call has started it since it was made or stopped."""
        return self._loop is not None

    def stop(self) -> None:
        """End the loop and its thread."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None and self._pid == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            self._lock, self._loop = threading.Lock(), None
        with self._lock:
            if self._loop is None:
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop


class HasLoop(Protocol[T]):
    """What `blocking` methods live in: something with a loop and the async object behind it."""

    _loop: LoopThread
    _behind: T


def blocking(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[HasLoop[T], P], R]:
    """Return the blocking form of an async method: the same arguments, result, errors and docs."""

    @wraps(method)
    def call(self: HasLoop[T], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._loop.run(method(self._behind, *args, **kwargs))

    return call
