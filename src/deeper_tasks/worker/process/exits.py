"""Exits: a SystemExit or KeyboardInterrupt in a task that a job started ends the job's attempt, and not the loop."""

from __future__ import annotations

import asyncio
from asyncio.events import AbstractEventLoop
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from deeper_tasks.tasks.context import job_in, note_exit

_robust: WeakSet[AbstractEventLoop] = WeakSet()
_workers: WeakKeyDictionary[AbstractEventLoop, int] = WeakKeyDictionary()


class PartExited(BaseException):
    """A task that a handler started has tried to end the program."""


def mark_robust(loop: AbstractEventLoop) -> None:
    """Mark a loop that goes on after a SystemExit, and whose process runs nothing else."""
    _robust.add(loop)


def owns_process(loop: AbstractEventLoop) -> bool:
    """Whether the process runs nothing but the worker on this loop, as under `deeper worker`, and ends with it."""
    return loop in _robust


@contextmanager
def confined_exits(loop: AbstractEventLoop) -> Iterator[None]:
    """
    Inside the `with`, keep a SystemExit or KeyboardInterrupt of a task that a job's code starts away from the loop.

    asyncio would let it through, out of a loop that belongs to the application. The task
    ends by `PartExited` instead. Exits in callbacks still reach the loop, which has no hook for them.
    """
    if loop in _robust:
        yield
        return
    # Several workers may share a loop.
    _workers[loop] = _workers.get(loop, 0) + 1
    if _workers[loop] == 1:
        loop.set_task_factory(_Confining(loop.get_task_factory()))
    try:
        yield
    finally:
        _workers[loop] -= 1
        factory = loop.get_task_factory()
        if not _workers[loop] and isinstance(factory, _Confining):
            loop.set_task_factory(factory.before)


class _Confining:
    """A task factory that holds back the exits of jobs' tasks, and passes all other tasks to the factory before it."""

    def __init__(self, before: Any) -> None:
        self.before = before

    def __call__(
        self, loop: AbstractEventLoop, coroutine: Any, *, context: Context | None = None, **options: Any
    ) -> Any:
        if job_in(copy_context() if context is None else context) is not None and asyncio.iscoroutine(coroutine):
            coroutine = _Part(coroutine)
        if context is not None:
            options["context"] = context
        make = self.before
        return asyncio.Task(coroutine, loop=loop, **options) if make is None else make(loop, coroutine, **options)


class _Part(Coroutine[Any, Any, Any]):
    """A coroutine that raises `PartExited` when its own code exits."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        # asyncio shows a task by the name, the code and the frame of its coroutine.
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._inner.__await__())

    def send(self, value: Any) -> Any:
        """Go on."""
        return _held_back(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error."""
        return _held_back(self._inner.throw, *error)

    def close(self) -> None:
        """End it."""
        self._inner.close()


def _held_back(step: Callable[..., Any], *values: Any) -> Any:
    try:
        return step(*values)
    except (SystemExit, KeyboardInterrupt) as error:
        note_exit(copy_context(), error)
        raise PartExited(f"{type(error).__name__} in a task of the job") from error
