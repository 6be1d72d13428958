"""Stop signals: SIGTERM, SIGINT and SIGHUP stop a worker while it runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Protocol

from deeper_tasks.worker.process.blocked_signals import block_again, unblock_signals
from deeper_tasks.worker.process.exits import owns_process
from deeper_tasks.worker.process.fatal_signals import FATAL_SIGNALS, end_if_fatal
from deeper_tasks.worker.process.own_signals import is_of_application
from deeper_tasks.worker.process.signal_keeper import SignalKeeper
from deeper_tasks.worker.process.signal_thread import SignalThread

_logger = logging.getLogger("deeper_tasks")

_INIT = 1


class Stoppable(Protocol):
    """A worker, as its signals see it."""

    @property
    def is_stopping(self) -> bool:
        """Whether a stop of the worker was requested."""

    def stop(self) -> None:
        """Stop in order; called again, give back at once. Called in the worker's loop."""

    def note_signal(self) -> None:
        """Note a signal that requests a stop. Called in another thread."""


@contextmanager
def stopped_by_signals(worker: Stoppable) -> Iterator[None]:
    """
    Inside the `with`, in a running loop of the main thread, stop the worker at each of these signals.

    SIGHUP is left alone if it is ignored, as by `nohup`, or if the application handles it. A worker that has its
    process to itself gets these signals, and fatal signals, also while its loop is blocked; if the code of a job has
    had them ignored, the worker takes them again. Signals that were blocked are blocked again afterwards.
    """
    loop, numbers = asyncio.get_running_loop(), [signal.SIGTERM, signal.SIGINT]
    if not is_of_application(signal.SIGHUP):
        numbers.append(signal.SIGHUP)

    def take(number: signal.Signals) -> None:
        loop.add_signal_handler(number, _stop, worker, number)

    for number in numbers:
        take(number)
    blocked = unblock_signals(numbers)
    owns = owns_process(loop)
    try:
        with (
            _signal_thread(worker, numbers) if owns else nullcontext(),
            SignalKeeper(numbers if owns else (), take=take),
        ):
            yield
    finally:
        block_again(blocked)
        for number in numbers:
            with suppress(ValueError):
                loop.remove_signal_handler(number)


def warn_without_init() -> None:
    """Log that an init is missing, if this process, which runs the code of jobs, is process 1 of its container."""
    if os.getpid() == _INIT:
        _logger.warning(
            "this program is process 1 of its container, so processes that jobs leave behind are never reaped and pile "
            "up: have an init in the container, by 'docker run --init', 'init: true' in Compose, "
            "'shareProcessNamespace: true' in Kubernetes, or 'tini --' before the command; 'deeper worker' brings one"
        )


def _signal_thread(worker: Stoppable, numbers: Collection[int]) -> SignalThread:
    def pass_on(number: int) -> None:
        if not end_if_fatal(number):
            worker.note_signal()

    return SignalThread({*numbers, *FATAL_SIGNALS}, on_signal=pass_on)


def _stop(worker: Stoppable, number: signal.Signals) -> None:
    if number is signal.SIGHUP and not worker.is_stopping:
        # The terminal to which the line goes may be gone.
        with suppress(Exception):
            _logger.warning("worker stopping: SIGHUP arrived, as when a terminal is closed")
    worker.stop()
