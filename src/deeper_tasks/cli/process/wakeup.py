"""The wake-up: a descriptor by which a program that waits for input notices signals that come just before the wait."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def woken_by_signals(*numbers: int) -> Iterator[int]:
    """
    Yield a descriptor from which the numbers of arriving signals can be read.

    The signals in `numbers` have no other effect. Other signals, such as Ctrl-C, take effect when a wait for this
    descriptor returns. Without it, Python would not run their handlers in a wait that begins just after the signal.
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
    """Do nothing: the number is already in the pipe."""
