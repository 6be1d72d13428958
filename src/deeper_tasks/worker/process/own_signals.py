"""Signals that this process handles for itself: the processes that it forks, in any thread, get a clean state."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import os
import signal
import threading
from asyncio import unix_events
from functools import cache
from typing import Any

_RESETTABLE = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_OF_A_LOOP = getattr(unix_events, "_sighandler_noop", None)
"""The handler that asyncio sets for a signal that a loop takes by the wake-up descriptor."""


class _Fork(threading.local):
    """The blocked signals of this thread just before its fork."""

    mask: set[int] | None = None


_fork = _Fork()
_own: dict[int, tuple[Any, Any]] = {}
"""By signal: the handler that is of use to this process alone, and the one before it."""


def handle_alone(number: int, handler: Any) -> Any:
    """
    Set a handler for this process alone; the processes that it forks have the handler from before.

    Returns:
        The handler from before, as `signal.signal` does.
    """
    keep_signals_from_copies()
    now = signal.getsignal(number)
    own, before = _own.get(number, (None, None))
    if own is None or now != own:
        before = now
    _own[number] = (handler, before)
    signal.signal(number, handler)
    return before


def is_of_application(number: int) -> bool:
    """Whether this process was started with a signal ignored, as by `nohup`, or the application handles it."""
    handler = signal.getsignal(number)
    own, _ = _own.get(number, (None, None))
    return handler not in (signal.SIG_DFL, signal.default_int_handler) and (own is None or handler != own)


@cache
def keep_signals_from_copies() -> None:
    """
    From now on, have each copy that is forked from this process give up the original's handling of signals.

    A copy shares the original's wake-up descriptor: a signal to the copy would reach the original's event loop,
    and not end the copy. A copy gives up that descriptor, the handlers of event loops, which become the default ones,
    and those of `handle_alone`. Handlers of the application stay, and so do blocked and ignored signals.
    """
    os.register_at_fork(before=_before, after_in_parent=_unblock, after_in_child=_after_in_copy)


def _before() -> None:
    # A signal that comes at once waits until the copy takes it as its own.
    _fork.mask = {*signal.pthread_sigmask(signal.SIG_BLOCK, _RESETTABLE)}


def _unblock() -> None:
    mask, _fork.mask = _fork.mask, None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_copy() -> None:
    signal.set_wakeup_fd(-1)
    for number in _RESETTABLE:
        # The `signal` module would make the repr of each handler that is a function.
        handler = _signal.getsignal(number)
        own, before = _own.get(number, (None, None))
        if own is not None and handler == own:
            handler = before
            signal.signal(number, signal.SIG_DFL if before is None else before)
        if _is_of_a_loop(handler):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _own.clear()
    _unblock()


def _is_of_a_loop(handler: object) -> bool:
    if handler is None or isinstance(handler, int):
        return False
    # Loops of other libraries set one of their methods.
    return handler is _OF_A_LOOP or isinstance(getattr(handler, "__self__", None), asyncio.AbstractEventLoop)
