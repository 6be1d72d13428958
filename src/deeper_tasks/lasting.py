"""Lasting: keeps a background thread running after any exception that is raised in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from deeper_tasks import native

_logger = logging.getLogger("deeper_tasks")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 5.0
"""Seconds before the next try, so that an error that comes each time does not fill the log."""
_FORGOTTEN_AFTER = 60.0
"""Seconds without an exception, after which the pauses are short again."""


def lasting(serve: Callable[[], object], *, name: str) -> Callable[[], None]:
    """
    Return the target of a thread: it calls `serve` until that returns, and again after each exception.

    An exception may be raised at any point of a thread: a MemoryError, or an exception that other code sends to the
    thread by `PyThreadState_SetAsyncExc`. `serve` must keep its state outside, so that the next call can continue.
    """

    def run() -> None:
        pause, is_over = _FIRST_PAUSE, False
        while not is_over:
            # A second exception may come while the first is being logged.
            with suppress(BaseException):
                began = time.monotonic()
                is_over = _is_served(serve, name)
                if not is_over:
                    native.sleep(pause)
                    is_rare = time.monotonic() - began > _FORGOTTEN_AFTER
                    pause = _FIRST_PAUSE if is_rare else min(2 * pause, _LONGEST_PAUSE)

    return run


def _is_served(serve: Callable[[], object], name: str) -> bool:
    try:
        serve()
    except BaseException as error:
        # Logging itself may fail.
        with suppress(BaseException):
            _logger.error(  # noqa: TRY400 - a MemoryError has no use for a traceback of its own
                "thread %r restarts after %s", name, type(error).__name__, exc_info=error
            )
        return False
    return True
