"""Fatal signals end a process that does not handle them. The process of a worker names the signal in its last line."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

from deeper_tasks.worker.process.own_signals import handle_alone

_logger = logging.getLogger("deeper_tasks")

_NAMES = (
    "SIGQUIT",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGXCPU",
    "SIGIO",
    "SIGPWR",
    "SIGSTKFLT",
)
FATAL_SIGNALS = frozenset(signal.Signals[name] for name in _NAMES if name in signal.Signals.__members__)
"""Without the stop signals, and without SIGSEGV and its like, which no Python code can handle."""
_LAST_WORDS = 2.0
"""Seconds that the line may take, because another thread may hold the lock of a log handler."""

_PAUSE = 0.2
"""Seconds for which the thread that takes the signal waits for the line."""

_ending = threading.Lock()


def name_fatal_signals() -> None:
    """
    Have this process name a fatal signal in its last line, before the signal ends it as always.

    To be called in the main thread before the application is imported, so that its own handlers replace these.
    """
    for number in FATAL_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            handle_alone(number, _end)


def end_if_fatal(number: int) -> bool:
    """End this process if `name_fatal_signals` handles this signal, also where the main thread cannot; else False."""
    if signal.getsignal(number) is not _end:
        return False
    _end(number, None)
    return True


def _end(number: int, _frame: FrameType | None) -> None:
    if _ending.acquire(blocking=False):
        speaker = threading.Thread(target=_end_process, args=(number,), name="deeper-last-words", daemon=True)
        speaker.start()
        # If this thread holds the lock of a log handler, it must go on for the line to be written.
        speaker.join(_PAUSE)


def _end_process(number: int) -> None:
    words = f"this process ends by {signal.Signals(number).name}, without having been asked to stop"
    speaker = threading.Thread(target=_logger.critical, args=("%s", words), name="deeper-speaker", daemon=True)
    speaker.start()
    speaker.join(_LAST_WORDS)
    if speaker.is_alive():
        # There may be no stderr.
        with suppress(Exception):
            os.write(sys.stderr.fileno(), f"{words}\n".encode())
    # The `signal` module refuses it in threads other than the main one.
    ctypes.CDLL(None).signal(number, None)
    os.kill(os.getpid(), number)
