"""The loop of a worker process, which goes on where a job's code tries to end it."""

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
"""Errors that may come out of a loop before it turns, which takes one more turn for each."""


def run_on_loop(main: Coroutine[Any, Any, R]) -> R:
    """
    Run `main` to its end as `asyncio.run` does, on a loop that only `main` ends.

    asyncio lets a SystemExit or KeyboardInterrupt of any of its tasks and
    callbacks through, out of the loop. Here the loop goes on, the task of which it
    was has ended by it, and so has the attempt of the job that this belonged to. It
    goes on as well after any other error that comes out of it, as in debug mode from the
    repr of a task, unless it does not turn any more.
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
        """Count an error; returns whether the loop is broken for good, as one without its selector."""
        if not self._errors and not self._loop.is_closed():
            self._loop.call_soon(self._turned)
        self._errors += 1
        return self._errors > _MOST_ERRORS or self._loop.is_closed()

    def _turned(self) -> None:
        self._errors = 0


class _Interrupts:
    """
    Ctrl-C before the worker's loop hears it: the first cancels the task, the second raises KeyboardInterrupt.

    As `asyncio.run` has it, in the main thread, and unless the application handles SIGINT by itself. The handler is
    read without the `signal` module, which makes the repr of what a job may have set.
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
        # A loop that waits for something to happen would not notice.
        self._loop.call_soon_threadsafe(lambda: None)

    def may_have_raised(self, error: BaseException) -> bool:
        """Whether it may be a Ctrl-C: while the worker is up its loop hears the signal, and nothing is raised."""
        handler = _signal.getsignal(signal.SIGINT)
        is_ours = self.count > 1 and handler is self
        return isinstance(error, KeyboardInterrupt) and (is_ours or handler is signal.default_int_handler)


def _blame(error: BaseException) -> None:
    """Fail the attempt whose code raised this in a task or a callback of its own, and say so."""
    context = _context_of(error.__traceback__)
    job = None if context is None else note_exit(context, error)
    kind = type(error).__name__
    if job is None:
        _logger.error(
            "the event loop met %s, which was raised by no job's code; the worker goes on", kind, exc_info=error
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
        if frame.f_code is Handle._run.__code__:  # noqa: SLF001 - the only place that knows it
            context: Context = frame.f_locals["self"]._context  # noqa: SLF001 - the same
            return context
        trace = trace.tb_next
    return None
