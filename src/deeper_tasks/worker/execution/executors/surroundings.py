"""The surroundings of the jobs in a child: the settings that the system and the interpreter have once a process."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import gc
import locale
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class _Setting(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], object]


class Surroundings:
    """
    The surroundings as they were when this was made, in the main thread after the start hooks.

    `loop` is the event loop that the jobs share, if they share one. Settings that code may change once for all later
    jobs, as at an import, are not included: globals of modules, environment variables, filters of warnings, threads,
    handlers of errors.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(self._wakeup)
        self._timers = [timer for timer in _TIMERS if not signal.getitimer(timer)[0]]
        self._before = [(*setting, setting.read()) for setting in _settings(loop)]

    def restore(self) -> bool:
        """
        Put back the settings that a job has changed. Never raises.

        Returns whether all settings are as before; if not, no other job should run in this process.
        """
        try:
            for timer in self._timers:
                signal.setitimer(timer, 0)
            os.umask(self._umask)
            signal.set_wakeup_fd(self._wakeup)
            for read, write, before in self._before:
                now = read()
                if now is not before and now != before:
                    write(before)
            self._restore_loop()
        except BaseException:  # noqa: BLE001 - the system refused, or an object that the job has left raised
            return False
        return self._loop is None or not self._loop.is_closed()

    def _restore_loop(self) -> None:
        if self._loop is not None:
            asyncio.set_event_loop(self._loop)
            return
        policy = _policy()
        if (local := getattr(policy, "_local", None)) is not None:
            # A fresh policy has had no loop, so it makes one when a job asks for it.
            policy._local = type(local)()  # noqa: SLF001 - to set None would forbid that


def _settings(loop: asyncio.AbstractEventLoop | None) -> Iterator[_Setting]:
    yield _Setting(_handlers, _set_handlers)
    yield _Setting(partial(_signal.pthread_sigmask, signal.SIG_BLOCK, ()), _mask)
    for name in ("stdin", "stdout", "stderr"):
        yield _Setting(partial(getattr, sys, name), partial(setattr, sys, name))
        yield _Setting(partial(_is_open, name), _lost)
    for descriptor in range(3):
        yield _Setting(partial(_place, descriptor), _lost)
    yield _Setting(_folder, os.chdir)
    yield _Setting(partial(locale.setlocale, locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL))
    yield _Setting(partial(os.getpriority, os.PRIO_PROCESS, 0), partial(os.setpriority, os.PRIO_PROCESS, 0))
    yield _Setting(lambda: (os.getuid(), os.geteuid(), os.getgid(), os.getegid()), _lost)
    yield _Setting(_limits, _set_limits)
    yield _Setting(sys.getrecursionlimit, sys.setrecursionlimit)
    yield _Setting(sys.getswitchinterval, sys.setswitchinterval)
    yield _Setting(sys.gettrace, sys.settrace)
    yield _Setting(sys.getprofile, sys.setprofile)
    yield _Setting(gc.isenabled, lambda was: gc.enable() if was else gc.disable())
    yield _Setting(socket.getdefaulttimeout, socket.setdefaulttimeout)
    yield _Setting(_policy, asyncio.set_event_loop_policy)
    yield _Setting(asyncio._get_running_loop, asyncio._set_running_loop)  # noqa: SLF001 - as the loops themselves do
    if loop is not None:
        yield _Setting(loop.get_task_factory, loop.set_task_factory)
        yield _Setting(loop.get_exception_handler, loop.set_exception_handler)
        yield _Setting(loop.get_debug, loop.set_debug)


def _handlers() -> list[Any]:
    # The `signal` module would make the repr of each handler that is a function.
    return [*map(_signal.getsignal, _SIGNALS)]


def _set_handlers(handlers: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if _signal.getsignal(number) is not handler:
            _signal.signal(number, handler)


def _limits() -> list[tuple[int, int]]:
    return [*map(resource.getrlimit, _LIMITS)]


def _set_limits(limits: list[tuple[int, int]]) -> None:
    for limit, values in zip(_LIMITS, limits, strict=True):
        resource.setrlimit(limit, values)


def _mask(numbers: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, numbers)


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - as text, which is compared after each job
    except OSError:
        # The folder has been removed.
        return None


def _is_open(name: str) -> bool:
    stream = getattr(sys, name)
    return stream is not None and not stream.closed


def _place(descriptor: int) -> tuple[int, int] | None:
    """Return the device and inode of a descriptor; None if it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _lost(_: object) -> None:
    raise OSError("the job has closed it, or changed it for good")


def _policy() -> Any:
    with warnings.catch_warnings():
        # Python has deprecated event loop policies.
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy()
