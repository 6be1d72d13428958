"""Blocked signals: a process inherits them from the program that started it, and would never hear them."""

from __future__ import annotations

import logging
import signal
from collections.abc import Collection

_logger = logging.getLogger("deeper_tasks")


def unblock_signals(numbers: Collection[int]) -> set[int]:
    """
    Unblock these signals in this thread, and in each thread and program that it starts from now on.

    A program that a job starts inherits the mask: with SIGTERM blocked it could not be terminated.

    Returns:
        The signals that were blocked.
    """
    blocked = {*numbers} & signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    # The command `deeper` itself blocks SIGHUP while it starts.
    if noteworthy := sorted(blocked - {signal.SIGHUP}):
        _logger.info("signals were blocked when this worker started, and are unblocked now: %s", _names(noteworthy))
    return blocked


def block_again(numbers: Collection[int]) -> None:
    """Block in this thread the signals that `unblock_signals` has unblocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def _names(numbers: Collection[int]) -> str:
    known = {number.value: number.name for number in signal.Signals}
    return ", ".join(known.get(number, f"signal {number}") for number in numbers)
