"""The signals of a worker process while no event loop takes them: before its worker starts, and after it stopped."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from deeper_tasks.cli.process.shutdown import leave
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.worker.process.blocked_signals import unblock_signals
from deeper_tasks.worker.process.own_signals import handle_alone, is_of_application

_logger = logging.getLogger("deeper_tasks")

_STOPS: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}
"""The signals that stop a worker, with the handlers that they have by default."""


class StopsOutsideTheLoop:
    """End the process at once when it is told to stop: it has claimed nothing yet, or has let go of all."""

    def __init__(self) -> None:
        self._code = ExitCode.DONE
        self._has_ended = False

    def take(self) -> None:
        """Take the signals that nothing else takes, and that are not ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                if not is_of_application(number):
                    handle_alone(number, self._leave)

    def take_again(self, code: ExitCode) -> None:
        """Take them from now on that the worker has ended, to the end of the process, and end it with this code."""
        self._has_ended = True
        self._code = code
        self.take()

    def release(self) -> None:
        """Give back those that are still taken, unless a worker has run: then the process ends, and keeps them."""
        if not self._has_ended:
            atexit.unregister(self.ignore)
            for number, own in _STOPS.items():
                self._change(number, own)

    def ignore(self) -> None:
        """Ignore those that are still taken: the interpreter gives up its handlers, and would be killed by them."""
        for number in _STOPS:
            self._change(number, signal.SIG_IGN)

    def _change(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) == self._leave:
            signal.signal(number, handler)

    def _leave(self, *_: object) -> None:
        # It may come in the middle of a log line.
        with suppress(Exception):
            _logger.warning(
                "the worker was stopped again; its process ends before all is closed"
                if self._has_ended
                else "the worker was stopped before it started; it claimed nothing"
            )
        leave(self._code)


@contextmanager
def stops_outside_the_loop() -> Iterator[StopsOutsideTheLoop]:
    """
    Take, inside the `with`, the signals to stop whenever no event loop does. No signal is blocked from then on.

    Once a worker has run they are taken beyond that, until the process has ended.
    """
    stops = StopsOutsideTheLoop()
    # Before all that the application registers, so that it is called after them.
    atexit.register(stops.ignore)
    stops.take()
    unblock_signals(signal.valid_signals())
    try:
        yield stops
    finally:
        stops.release()
