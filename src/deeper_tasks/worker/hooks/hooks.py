"""The hooks: what a manager's workers call at their start and at their end, and how one process runs them."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from deeper_tasks.domain.durations import readable
from deeper_tasks.errors import ConfigError, HookError
from deeper_tasks.run_in_thread import run_in_thread
from deeper_tasks.tasks import WorkerState
from deeper_tasks.worker.clock import Clock

_logger = logging.getLogger("deeper_tasks")

Hook = Callable[..., Any]

STOP_SECONDS = 10.0
"""Seconds that all stop hooks of a process get together."""
_PATIENCE = 10.0
"""Seconds until the log says which start hook the worker waits for; it says so again after twice the time."""


class Hooks:
    """
    The hooks of a manager, in the order in which they were added.

    A hook that needs one positional argument gets the state, and one that needs none nothing. The first
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


class HookRun:
    """The hooks' one run in a worker's process, on its event loop, and the state that they share."""

    def __init__(self, hooks: Hooks, *, clock: Clock, state: WorkerState | None = None) -> None:
        self.state = WorkerState() if state is None else state
        self._hooks = hooks.copy()
        self._clock = clock
        self._started: int | None = None
        self.calling = ""
        """Which hook runs now, in words; empty: none does. Safe to read from any thread."""

    async def start(
        self,
        *,
        stopping: asyncio.Event,
        context: contextvars.Context,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        """
        Run the start hooks in turn, until one fails or the worker is told to stop.

        `tell` is called before each, with its name in words; without it, the log names one that takes long.

        The context variables that they set are set in `context`. A plain `def` runs in a thread of its own.

        Raises:
            HookError: a start hook failed; those after it were not called.
        """
        self._started = 0
        for hook in self._hooks.starts:
            self.calling = f"the start hook {describe(hook)}"
            calling = asyncio.Task(self._start(hook), context=context)
            telling = asyncio.create_task(stopping.wait())
            try:
                if tell is not None:
                    tell(f"its start hook {describe(hook)}")
                await _wait_for_first({calling, telling}, hook=None if tell else hook)
                if not calling.done():
                    _logger.warning("the worker stops before the start hook %s has ended", describe(hook))
                    return
            finally:
                self.calling = ""
                telling.cancel()
                if not calling.done():
                    calling.cancel()
                    # A failure, which is logged there, is no news any more.
                    calling.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                    await asyncio.wait({calling}, timeout=STOP_SECONDS)
            calling.result()
            if stopping.is_set():
                return

    async def _start(self, hook: Hook) -> None:
        try:
            take(self.state, hook, await _outcome(hook, self.state))
        except HookError:
            _logger.exception("the worker does not start")
            raise
        self._started = (self._started or 0) + 1

    async def stop(self) -> None:
        """
        Run the stop hooks that are due, in turn; what fails or takes too long is logged. Without a start: none.

        Each gets an equal share of the time that is left, so one that hangs leaves the others theirs.
        """
        if self._started is None:
            return
        deadline = self._clock.monotonic() + STOP_SECONDS
        due = self._hooks.due_stops(self._started)
        for number, hook in enumerate(due):
            share = max(0.0, deadline - self._clock.monotonic()) / (len(due) - number)
            self.calling = f"the stop hook {describe(hook)}"
            calling = asyncio.create_task(_outcome(hook, self.state))
            try:
                await asyncio.wait({calling}, timeout=share)
            finally:
                self.calling = ""
                is_over = calling.done()
                calling.cancel()
            if not is_over:
                _logger.error("the stop hook %s did not end within %s and is left", describe(hook), readable(share))
            elif (error := calling.result()[1]) is not None:
                log_failed_stop(hook, error)
        self._started = None


async def _wait_for_first(waited: set[asyncio.Task[Any]], *, hook: Hook | None) -> None:
    patience, waits = None if hook is None else _PATIENCE, 0.0
    while not (await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED))[0]:
        if hook is not None and patience is not None:
            waits, patience = waits + patience, patience * 2
            _logger.warning("the worker has waited %s for its start hook %s", readable(waits), describe(hook))


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
        # Made of C, and silent about what it takes.
        return ()
    # A parameter with a default, such as a pool's size, is the hook's own affair.
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
    """Return where a hook stands: `module.qualname`."""
    named = hook.func if isinstance(hook, partial) else hook
    module, qualname = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    return f"{module}.{qualname}" if module and qualname else repr(hook)


async def _outcome(hook: Hook, state: WorkerState) -> Ended:
    """Call a hook to its end. Returned and not raised: a SystemExit would go through the event loop."""
    this = asyncio.current_task()
    assert this is not None
    try:
        arguments = arguments_of(hook, state)
        if inspect.iscoroutinefunction(hook):
            return await hook(*arguments), None
        # Two threads cannot be in one context: the hook gets a copy, and what it sets there is taken over.
        copied = contextvars.copy_context()
        value = await run_in_thread(partial(copied.run, hook, *arguments))
        for variable in copied:
            variable.set(copied[variable])
        return (await value if inspect.isawaitable(value) else value), None
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and this.cancelling():
            raise
        return None, error


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
