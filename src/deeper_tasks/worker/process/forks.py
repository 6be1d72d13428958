"""Forks: a copy of this process, made by a job's code, runs that code to its end and then ends itself."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import sys
import threading
import traceback
from collections import deque
from concurrent.futures.thread import _threads_queues, _WorkItem
from contextlib import suppress
from contextvars import copy_context
from functools import cache
from types import FrameType
from typing import NoReturn

from deeper_tasks.tasks.context import job_in
from deeper_tasks.worker.process.own_signals import keep_signals_from_copies

_FAILED = 1


class _Fork(threading.local):
    """The state of this thread just before its fork, for the forked process."""

    loop: asyncio.AbstractEventLoop | None = None


class _Process:
    """The state of this process: `is_copy` says that it was forked after `watch_forks`, by a job or by other code."""

    is_copy = False


_fork = _Fork()
this_process = _Process()


@cache
def watch_forks() -> None:
    """
    Keep copies of this process that a job forks, from now on, away from the original's loop, threads and signals.

    A copy ends when its code returns to the event loop that it shares with the original, or to a pool of threads.
    It handles signals for itself.
    """
    keep_signals_from_copies()
    os.register_at_fork(before=_before, after_in_child=_after_in_copy)


def hang_up_in_copies(connection: socket.socket) -> None:
    """Close a connection in every copy of this process, so that none of them uses it, or keeps it open."""
    os.register_at_fork(after_in_child=connection.close)


def is_copy_of(pid: int) -> bool:
    """Whether this process was forked from `pid` after that process had called `watch_forks`."""
    # Each job asks this, so only a copy makes the system call.
    return this_process.is_copy and os.getpid() != pid


def leave_if_copy(pid: int, error: BaseException | None = None) -> None:
    """
    End this process if it was forked from `pid`, in which the attempt began. The handler returned, or raised `error`.

    The worker takes no result from a copy, whose code would otherwise go on with the work of the original.
    """
    if this_process.is_copy and os.getpid() != pid:
        _leave(error)


def _before() -> None:
    _fork.loop = None
    if job_in(copy_context()) is not None:
        with suppress(RuntimeError):
            _fork.loop = asyncio.get_running_loop()
    # Otherwise the copy would write buffered output a second time.
    _flush_output()


def _after_in_copy() -> None:
    this_process.is_copy = True
    # At its end the interpreter would wait for the threads of pools, which the copy does not have.
    _threads_queues.clear()  # type: ignore[attr-defined]
    if _fork.loop is not None:
        _end_before_anything_else(_fork.loop)
    else:
        _end_instead_of_waiting_for_calls()


def _end_before_anything_else(loop: asyncio.AbstractEventLoop) -> None:
    ready = getattr(loop, "_ready", None)
    if isinstance(ready, deque):
        # Before all other callbacks of the loop: those of the worker's roles and of other jobs.
        ready.appendleft(asyncio.Handle(_refuse_to_wait, (), loop))
    else:
        loop.call_soon(_refuse_to_wait)


def _end_instead_of_waiting_for_calls() -> None:
    """End the copy after the current call, if a thread of a pool made it, as under `asyncio.to_thread`."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if frame.f_code is _WorkItem.run.__code__:
            # In the copy no code gives that thread another call, or waits for its result.
            frame.f_locals["self"].future = _EndOfCopy()
        frame = frame.f_back


class _EndOfCopy:
    """Takes the place of a call's result."""

    def set_result(self, _: object) -> NoReturn:
        _leave(None)

    def set_exception(self, error: BaseException) -> NoReturn:
        _leave(error)


def _refuse_to_wait() -> NoReturn:
    _leave(RuntimeError("a copy of this process that a job's coroutine forked cannot await anything; it ends"))


def _leave(error: BaseException | None) -> NoReturn:
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = _exit_code(error)
        elif error is not None:
            code = _FAILED
            traceback.print_exception(error)
        _flush_output()
    finally:
        os._exit(code)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed or missing, or be an object of the application, which may raise anything.
        with suppress(Exception):
            stream.flush()


def _exit_code(error: SystemExit) -> int:
    """Return the exit code that the interpreter would use."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return _FAILED
