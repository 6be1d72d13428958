"""The shutdown of a worker process, which nothing that its application left running may hold up."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from os import _exit
from typing import NamedTuple

from deeper_tasks.cli.process.last_words import named_exits, say_last
from deeper_tasks.cli.program import ExitCode, tell
from deeper_tasks.integrations.tracebacks import words_of

_logger = logging.getLogger("deeper_tasks")

_CODES = 256
"""The bits that the system keeps of an exit code: 256 would be taken for 0."""
_LAST_WORDS = 2.0
"""Seconds that tasks, threads and log handlers get to end after the worker has stopped."""


def run_to_the_end(run: Callable[[], ExitCode], *, as_json: bool) -> int:
    """
    Call `run`, which has a worker process do its work, and return its exit code, or that of its failure.

    The interpreter would wait for threads of the application for ever: where
    one does not end, the process ends here. An application that exits by itself,
    at its import for example, was not asked to: then the code is never 0.
    """
    others = set(threading.enumerate())
    end = _end_of(run, as_json=as_json)
    have_ended = _have_ended(others, within=0 if end.code is ExitCode.STUCK else _LAST_WORDS)
    if end.why:
        # Last, when no thread is left to say anything else.
        say_last(f"this worker process ends with code {end.code}, without having been asked to: {end.why}")
    if not have_ended:
        leave(end.code)
    return end.code


async def end_loop(code: ExitCode) -> None:
    """End the tasks of this loop, and the threads that it shares; the process ends here if they do not."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    # The loop would wait for a thread that a job went away from, `asyncio.to_thread`, when it is closed.
    others.add(asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor()))
    if (await asyncio.wait(others, timeout=_LAST_WORDS))[1]:
        leave(code)


def leave(code: int) -> None:
    """End the process now. What is stuck may hold the lock of a log handler, or nobody may read the output."""
    try:
        speaker = threading.Thread(target=_flush, name="deeper-last-words", daemon=True)
        speaker.start()
        speaker.join(_LAST_WORDS)
    finally:
        _exit(code)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Closed, or never there: a service may be started without.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


class _End(NamedTuple):
    """The exit code, and if no signal has asked for the end, its reason."""

    code: int
    why: str = ""


def _end_of(run: Callable[[], ExitCode], *, as_json: bool) -> _End:
    try:
        with named_exits():
            return _End(run())
    except SystemExit as error:
        return _end_by_exit(error)
    except asyncio.CancelledError as error:
        return _unasked("its own task was cancelled, as by code that cancels all tasks of its loop", error)
    except Exception as error:  # noqa: BLE001 - a process that does not end for it is never replaced
        return _end_by_error(error, as_json=as_json)


def _end_by_exit(error: SystemExit) -> _End:
    """Return the end by an exit of the application's own."""
    if isinstance(error.code, str):
        # As the interpreter does.
        sys.stderr.write(f"{error.code}\n")
        return _End(ExitCode.REFUSED)
    code = error.code if isinstance(error.code, int) and error.code % _CODES else ExitCode.REFUSED
    return _unasked(f"the application called sys.exit({error.code!r})", error, code=code)


def _end_by_error(error: Exception, *, as_json: bool) -> _End:
    try:
        return _End(tell(error, as_json=as_json))
    except Exception:  # noqa: BLE001 - it is told
        return _unasked(f"an unexpected error, {type(error).__name__}: {words_of(error)}", error)


def _unasked(why: str, error: BaseException, *, code: int = ExitCode.REFUSED) -> _End:
    _logger.critical("the worker was ended from inside", exc_info=error)
    return _End(code, why)


def _have_ended(others: set[threading.Thread], *, within: float) -> bool:
    """Wait for the threads that the application has started beside these others; returns whether all have ended."""
    deadline = time.monotonic() + within
    for thread in threading.enumerate():
        if thread not in others and not thread.daemon:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
    return True
