"""The last words of a worker process that code or a signal ends which is not the worker's own."""

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
"""The bits that the system keeps of an exit code: 256 would be taken for 0."""
_LAST_WORDS = 2.0
"""Seconds that the line may take: another thread may hold the lock of a log handler."""


def name_crashes() -> None:
    """Have a crash of the interpreter, such as a segmentation fault, and a fatal signal say on stderr what they are."""
    if not faulthandler.is_enabled():
        # There may be no stderr.
        with suppress(Exception):
            faulthandler.enable()
    if threading.current_thread() is threading.main_thread():
        name_fatal_signals()


@contextmanager
def named_exits() -> Iterator[None]:
    """Inside the `with`, have an `os._exit` of the application say so, and never end this process with code 0."""
    process = os.getpid()

    def leave(status: int) -> NoReturn:
        if os.getpid() == process:
            caller = sys._getframe(1)  # noqa: SLF001 - the only way to its name
            place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            say_last(f"the application ended this worker process, by os._exit({status!r}) in {place}")
            status = status if status % _CODES else ExitCode.REFUSED
        _exit(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = _exit


def say_last(words: str) -> None:
    """Log words, for which another thread may hold the lock of the log handler: then they are not written."""
    speaker = threading.Thread(target=_logger.critical, args=("%s", words), name="deeper-speaker", daemon=True)
    speaker.start()
    speaker.join(_LAST_WORDS)
