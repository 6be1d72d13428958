"""Signals of the processes for jobs: the same as in a fresh interpreter, however the worker was started."""

from __future__ import annotations

import signal
from types import FrameType

from deeper_tasks.worker.process.own_signals import handle_alone

_OF_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Signals that every interpreter ignores, and that `subprocess` sets back to the default in its programs."""
_OF_THE_SYSTEM = frozenset({signal.SIGKILL, signal.SIGSTOP})


def reset_signals() -> None:
    """Unblock all signals and ignore none; a program that a shell starts in the background inherits ignored ones."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - _OF_PYTHON - _OF_THE_SYSTEM:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class HeldSignals:
    """
    Signals whose arrival has no effect on this process. The processes that it forks handle them as before.

    They have a handler that does nothing, because an ignored signal would stay ignored in every started program.
    """

    def __init__(self, *numbers: int) -> None:
        self._numbers: set[int] = set()
        self.hold(*numbers)

    def hold(self, *numbers: int) -> None:
        """Hold these signals too, and those again for which the application has set handlers since."""
        self._numbers.update(numbers)
        for number in self._numbers:
            if signal.getsignal(number) is not _pass_over:
                handle_alone(number, _pass_over)


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing; the arrival of the signal alone wakes a call that waits."""
