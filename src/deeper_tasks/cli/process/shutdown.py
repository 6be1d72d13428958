"""The shutdown of a worker process: ends it even if the application has left tasks or threads running."""

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

from deeper_tasks.cli.process.exit_messages import log_within_time, named_exits
from deeper_tasks.cli.program import ExitCode, report_error
from deeper_tasks.integrations.tracebacks import words_of

_logger = logging.getLogger("deeper_tasks")

_CODES = 256
"""The number of exit codes: the system keeps eight bits, so that 256 would become 0."""
_GRACE = 2.0
"""Seconds that tasks, threads and log handlers get to end after the worker has stopped."""


def run_to_the_end(run: Callable[[], ExitCode], *, as_json: bool) -> int:
    """
    Call `run`, which does the work of the worker process, and return its exit code, or that of its error.

    The interpreter would wait for the application's threads without limit. If one of them does not end in time, this
    function ends the process. If the application ends the process itself, for example at its import, the exit code is
    never 0: no signal has asked for that end.
    """
    others = set(threading.enumerate())
    end = _end_of(run, as_json=as_json)
    have_ended = _have_ended(others, within=0 if end.code is ExitCode.STUCK else _GRACE)
    if end.why:
        # After the threads have ended, so that this is the last line of the log.
        log_within_time(f"this worker process ends with code {end.code}, without having been asked to: {end.why}")
    if not have_ended:
        leave(end.code)
    return end.code


async def end_loop(code: ExitCode) -> None:
    """Cancel the tasks of this loop and shut down its default executor; end the process if that takes too long."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    # Closing the loop would wait for threads of `asyncio.to_thread` whose jobs were cancelled.
    others.add(asyncio.create_task(asyncio.get_running_loop().shutdown_default_executor()))
    if (await asyncio.wait(others, timeout=_GRACE))[1]:
        leave(code)


def leave(code: int) -> None:
    """
    End the process now, with this exit code.

    Logs and streams are flushed in a thread that gets two seconds: a stuck thread may hold the lock of a log handler,
    and a full pipe that no process reads would block the flush.
    """
    try:
        flusher = threading.Thread(target=_flush, name="deeper-exit-flush", daemon=True)
        flusher.start()
        flusher.join(_GRACE)
    finally:
        _exit(code)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # The stream was closed, or a service was started without it.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


class _End(NamedTuple):
    """The exit code of the process, and the reason of its end if no signal has asked for it."""

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
    """Return the end of a process whose application has called `sys.exit`."""
    if isinstance(error.code, str):
        # The interpreter writes the text of `sys.exit("…")` on stderr, too.
        sys.stderr.write(f"{error.code}\n")
        return _End(ExitCode.REFUSED)
    code = error.code if isinstance(error.code, int) and error.code % _CODES else ExitCode.REFUSED
    return _unasked(f"the application called sys.exit({error.code!r})", error, code=code)


def _end_by_error(error: Exception, *, as_json: bool) -> _End:
    try:
        return _End(report_error(error, as_json=as_json))
    except Exception:  # noqa: BLE001 - the message of the end names it
        return _unasked(f"an unexpected error, {type(error).__name__}: {words_of(error)}", error)


def _unasked(why: str, error: BaseException, *, code: int = ExitCode.REFUSED) -> _End:
    _logger.critical("worker ended without a signal to stop", exc_info=error)
    return _End(code, why)


def _have_ended(others: set[threading.Thread], *, within: float) -> bool:
    """Wait for all threads except `others` and daemons, at most `within` seconds; return whether they have ended."""
    deadline = time.monotonic() + within
    for thread in threading.enumerate():
        if thread not in others and not thread.daemon:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
    return True
