"""The hooks of a manager: the functions that its workers call at their start and at their end."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from deeper_tasks.errors import ConfigError, HookError
from deeper_tasks.tasks import WorkerState

_logger = logging.getLogger("deeper_tasks")

Hook = Callable[..., Any]

STOP_SECONDS = 10.0
"""Seconds that all stop hooks of a process get together."""


class Hooks:
    """
    The hooks of a manager, in the order in which they were added.

    A hook that needs one positional argument gets the state. The first
    stop hook belongs to the first start hook, the second to the second, and so
    on: where a start hook fails, only the stop hooks of those before it run.
    """

    def __init__(self) -> None:
        self.starts: list[Hook] = []
        self.stops: list[Hook] = []

    def __bool__(self) -> bool:
        return bool(self.starts or self.stops)

    def copy(self) -> Hooks:
        """Return the hooks that there are now."""
        copied = Hooks()
        copied.starts, copied.stops = [*self.starts], [*self.stops]
        return copied

    def due_stops(self, started: int) -> list[Hook]:
        """Return the stop hooks to run after so many start hooks succeeded: the last added first."""
        stops = self.stops if started == len(self.starts) else self.stops[:started]
        return stops[::-1]


Ended = tuple[object, BaseException | None]
"""The value that a hook returned, or the error that it raised."""


def check_hook(hook: Hook) -> Hook:
    """Return a hook. Raises ConfigError where it cannot be called with the state alone, or with nothing."""
    if not callable(hook):
        message = f"a hook is a function, not {hook!r}"
        raise ConfigError(message)
    arguments_of(hook, None)
    return hook


def arguments_of(hook: Hook, state: WorkerState | None) -> tuple[Any, ...]:
    """
    Return what a hook is called with: the state if it needs an argument, nothing otherwise.

    Raises:
        ConfigError: it needs more than that.
    """
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):
        # A function made in C need not have a signature.
        return ()
    # Parameters with a default, such as a pool's size, are left to the hook.
    for arguments in ((), (state,)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return arguments
    message = f"a hook is called with the worker's state or without arguments; {describe(hook)} takes {signature}"
    raise ConfigError(message)


def take(state: WorkerState, hook: Hook, ended: Ended) -> None:
    """
    Put into the state what a start hook returned.

    Raises:
        HookError: the hook failed, or returned neither a mapping nor None.
    """
    value, error = ended
    if error is None and value is not None:
        try:
            vars(state).update(_by_name(value))
        except TypeError as unfit:
            error = unfit
    if error is not None:
        message = f"the start hook {describe(hook)} failed: {_words(error)}"
        raise HookError(message) from error


def log_failed_stop(hook: Hook, error: BaseException) -> None:
    """Log that a stop hook raised."""
    _logger.error(
        "the stop hook %s failed: %s",
        describe(hook),
        _words(error),
        exc_info=(type(error), error, error.__traceback__),
    )


def describe(hook: Hook) -> str:
    """Return the name of a hook as `module.qualname`."""
    named = hook.func if isinstance(hook, partial) else hook
    module, qualname = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    return f"{module}.{qualname}" if module and qualname else repr(hook)


def _by_name(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        message = f"it returned {type(value).__name__}, not a mapping such as {{'pool': pool}}, or None"
        raise TypeError(message)
    for name in value:
        if not (isinstance(name, str) and name.isidentifier()):
            message = f"the keys of what it returned are names such as 'pool', not {name!r}"
            raise TypeError(message)
    return dict(value)


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - what a hook raised need not be printable
        return type(error).__name__
