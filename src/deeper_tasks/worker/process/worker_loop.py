"""The loop of a worker process, which goes on when the code of a job tries to end it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import logging
import signal
import threading
from asyncio.events import Handle
from collections.abc import Coroutine
from contextvars import Context
from types import TracebackType
from typing import Any, Self, TypeVar

from deeper_tasks.tasks.context import note_exit
from deeper_tasks.worker.process.exits import mark_robust
from deeper_tasks.worker.process.own_signals import handle_alone

R = TypeVar("R")

_logger = logging.getLogger("deeper_tasks")

_MOST_ERRORS = 100
"""Errors in a row that may come out of a loop that does not turn in between."""


def run_on_loop(main: Coroutine[Any, Any, R]) -> R:
    """
    Run `main` to its end as `asyncio.run` does, on a loop that only `main` ends.

    asyncio lets a SystemExit or KeyboardInterrupt of any of its tasks and
    callbacks through, out of the loop. Here only the task ends by it, and the attempt of
    the job that the task belonged to, and the loop goes on. The loop also goes on after any other
    error that comes out of it, as in debug mode from the repr of a task, unless it does not turn any more.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        mark_robust(loop)
        working, turns = loop.create_task(main), _Turns(loop)
        with _Interrupts(loop, working) as interrupts:
            while not working.done():
                try:
                    loop.run_until_complete(working)
                except (SystemExit, KeyboardInterrupt) as error:
                    if working.done() or interrupts.may_have_raised(error):
                        raise
                    _blame(error)
                except asyncio.CancelledError:
                    if interrupts.count:
                        raise KeyboardInterrupt from None
                    raise
                except Exception:
                    if working.done() or turns.are_over():
                        raise
                    _logger.exception("the event loop was stopped by code that does not own it; it goes on")
        return working.result()


class _Turns:
    """Counts the errors that come out of a loop which has not turned in between."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._errors = 0

    def are_over(self) -> bool:
        """Count an error, and return whether the loop is broken for good, like a loop without its selector."""
        if not self._errors and not self._loop.is_closed():
            self._loop.call_soon(self._turned)
        self._errors += 1
        return self._errors > _MOST_ERRORS or self._loop.is_closed()

    def _turned(self) -> None:
        self._errors = 0


class _Interrupts:
    """
    Ctrl-C before the worker's loop takes it: the first cancels the task, the second raises KeyboardInterrupt.

    This is what `asyncio.run` does, in the main thread, unless the application handles SIGINT itself. The handler is
    read without the `signal` module, which makes the repr of a handler that a job may have set.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, working: asyncio.Task[Any]) -> None:
        self.count = 0
        self._loop = loop
        self._working = working

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and _signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            handle_alone(signal.SIGINT, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _signal.getsignal(signal.SIGINT) is self:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self, *_: object) -> None:
        """Take a signal."""
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        self._working.cancel()
        # A loop that waits in its selector would not notice.
        self._loop.call_soon_threadsafe(lambda: None)

    def may_have_raised(self, error: BaseException) -> bool:
        """Whether an error may be from a Ctrl-C. While the worker runs, its loop takes the signal, without an error."""
        handler = _signal.getsignal(signal.SIGINT)
        is_handled_here = self.count > 1 and handler is self
        return isinstance(error, KeyboardInterrupt) and (is_handled_here or handler is signal.default_int_handler)


def _blame(error: BaseException) -> None:
    """Fail the attempt whose code raised this in one of its tasks or callbacks, and log it."""
    context = _context_of(error.__traceback__)
    job = None if context is None else note_exit(context, error)
    kind = type(error).__name__
    if job is None:
        _logger.error(
            "the event loop met %s, which no job's code has raised; the worker continues", kind, exc_info=error
        )
        return
    _logger.error(
        "the job %s %s fails its attempt by %s, which a part of it has raised; the worker goes on",
        job.task,
        job.id,
        kind,
        exc_info=error,
        extra={"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt},
    )


def _context_of(trace: TracebackType | None) -> Context | None:
    """Return the context of the task step, or the callback, in which an exception was raised."""
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code is Handle._run.__code__:  # noqa: SLF001 - no other place knows it
            context: Context = frame.f_locals["self"]._context  # noqa: SLF001 - the same
            return context
        trace = trace.tb_next
    return None
