"""The signal keeper: lets a worker take its signals again if the code of its jobs has changed their handlers."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import logging
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Self

_logger = logging.getLogger("deeper_tasks")

_INTERVAL = 1.0


class SignalKeeper:
    """
    Inside the `with`, looks once a second, in the loop of the main thread.

    A signal that is ignored, or has its default handler, is handed to `take` again. A wake-up descriptor that was
    removed is set again, because without it no signal reaches the loop. Handlers that are functions of the
    application, and a descriptor of its own, stay.
    """

    def __init__(self, numbers: Collection[signal.Signals], *, take: Callable[[signal.Signals], object]) -> None:
        self._numbers = numbers
        self._take = take
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._descriptor = signal.set_wakeup_fd(-1)
        self._set_descriptor()
        self._timer = self._loop.call_later(_INTERVAL, self._look_again)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._look_again)
        self.look()

    def look(self) -> None:
        """Restore the worker's signal handlers and wake-up descriptor where other code replaced them, and log it."""
        # Before the signals: to take one sets the loop's own descriptor, which the signal thread does not read.
        found = self._set_descriptor()
        if found not in (-1, self._descriptor):
            signal.set_wakeup_fd(found, warn_on_full_buffer=False)
        elif found != self._descriptor:
            _warn("removed the wake-up descriptor of its process, signal.set_wakeup_fd")
        for number in self._numbers:
            if _is_unheard(number):
                self._take(number)
                self._set_descriptor()
                _warn(f"had {number.name} ignored, or set its default handler")

    def _set_descriptor(self) -> int:
        """Set the descriptor by which signals reach the loop, and return the one before."""
        # The code of a job may have closed it.
        with suppress(OSError, ValueError):
            return signal.set_wakeup_fd(self._descriptor, warn_on_full_buffer=False)
        return self._descriptor


def _is_unheard(number: int) -> bool:
    # `signal.getsignal` converts its answer to an enum, and its failure calls `repr` of a handler that a job has set.
    # `_signal` gives the handler as it is. SIG_DFL and SIG_IGN are numbers.
    handler = _signal.getsignal(number)
    return isinstance(handler, int) or handler is signal.default_int_handler


def _warn(what: str) -> None:
    _logger.warning("the code of a job, or of a hook, %s; the worker handles its signals again", what)
