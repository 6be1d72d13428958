"""Waking: what lets a program that waits for input hear every signal, also one that comes just before it waits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def woken_by_signals(*numbers: int) -> Iterator[int]:
    """
    Yield a descriptor from which the numbers of signals are read, as soon as they come.

    The signals `numbers` do nothing else. Others, such as Ctrl-C, do what they do as soon as the wait for this
    descriptor returns: a handler of Python's own would not run during a wait that begins just after the signal.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    handlers = {number: signal.signal(number, _ignore) for number in numbers}
    outer = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(outer)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _ignore(*_: object) -> None:
    """Do nothing: the number has been written."""
