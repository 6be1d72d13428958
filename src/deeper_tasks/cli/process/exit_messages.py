"""The exit messages: the log line of a worker process that a crash, a signal or the application's code ends."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from deeper_tasks.cli.program import ExitCode
from deeper_tasks.worker.process.fatal_signals import name_fatal_signals

_logger = logging.getLogger("deeper_tasks")

_exit = os._exit
_CODES = 256
"""The number of exit codes: the system keeps eight bits, so that 256 would become 0."""
_LOG_TIMEOUT = 2.0
"""Seconds to wait for the line to be written: another thread may hold the lock of a log handler."""


def name_crashes() -> None:
    """Make a crash of the interpreter, such as a segmentation fault, and a fatal signal write their name on stderr."""
    if not faulthandler.is_enabled():
        # It raises in a process without stderr.
        with suppress(Exception):
            faulthandler.enable()
    if threading.current_thread() is threading.main_thread():
        name_fatal_signals()


@contextmanager
def named_exits() -> Iterator[None]:
    """Inside the `with`, log each `os._exit` of the application, and replace its exit code 0 by 1."""
    process = os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() == process:
            caller = sys._getframe(1)  # noqa: SLF001 - the only way to its name
            place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            log_within_time(f"the application ended this worker process by os._exit({status!r}) in {place}")
            status = status if status % _CODES else ExitCode.REFUSED
        _exit(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = _exit


def log_within_time(message: str) -> None:
    """Log a critical message; give up after two seconds, if another thread holds the lock of a log handler."""
    writer = threading.Thread(target=_logger.critical, args=("%s", message), name="deeper-exit-message", daemon=True)
    writer.start()
    writer.join(_LOG_TIMEOUT)
