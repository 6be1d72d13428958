"""The signals of a worker process while no event loop handles them: before its worker starts, and after its end."""

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
"""The signals that stop a worker, with their default handlers."""


class StopsOutsideTheLoop:
    """
    Handlers that end the process at once when a signal asks it to stop.

    That is safe outside the loop: the worker has claimed no job yet, or has released all jobs.
    """

    def __init__(self) -> None:
        self._code = ExitCode.DONE
        self._has_ended = False

    def take(self) -> None:
        """Handle the signals that are not ignored, and for which the application has no handler."""
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                if not is_of_application(number):
                    handle_alone(number, self._leave)

    def take_again(self, code: ExitCode) -> None:
        """Handle the signals again after the worker's end, until the process ends; a signal ends it with `code`."""
        self._has_ended = True
        self._code = code
        self.take()

    def release(self) -> None:
        """Restore the default handlers, unless a worker has run: then the process is about to end, and keeps these."""
        if not self._has_ended:
            atexit.unregister(self.ignore)
            for number, own in _STOPS.items():
                self._change(number, own)

    def ignore(self) -> None:
        """Ignore the signals from now on: the interpreter removes its handlers at its end, and would be killed."""
        for number in _STOPS:
            self._change(number, signal.SIG_IGN)

    def _change(self, number: signal.Signals, handler: Any) -> None:
        if signal.getsignal(number) == self._leave:
            signal.signal(number, handler)

    def _leave(self, *_: object) -> None:
        # Logging raises if the signal has interrupted the writing of another log line.
        with suppress(Exception):
            _logger.warning(
                "worker stopped by another signal, its process ends at once"
                if self._has_ended
                else "worker stopped before its start, no job was claimed"
            )
        leave(self._code)


@contextmanager
def stops_outside_the_loop() -> Iterator[StopsOutsideTheLoop]:
    """
    Inside the `with`, handle the signals to stop whenever no event loop does, and unblock all signals.

    Once a worker has run, the handlers stay beyond the `with`, until the process has ended.
    """
    stops = StopsOutsideTheLoop()
    # Registered before any function of the application, and therefore called after all of them.
    atexit.register(stops.ignore)
    stops.take()
    unblock_signals(signal.valid_signals())
    try:
        yield stops
    finally:
        stops.release()
