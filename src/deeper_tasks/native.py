"""Native: real threads and their locks, even in a process where gevent or eventlet replace threads by greenlets."""

from __future__ import annotations

import _queue
import _socket
import _thread
import select
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from deeper_tasks.errors import UnsupportedError

_LIBRARIES = ("gevent", "eventlet")


class Thread(Protocol):
    """A daemon thread: it does not keep its process from ending."""

    def start(self) -> None:
        """Start the thread."""

    def join(self) -> None:
        """Wait for the end of the thread."""


def make_thread(target: Callable[[], object], *, name: str) -> Thread:
    """
    Return a new real thread, even if `threading` makes greenlets.

    Raises:
        UnsupportedError: uWSGI does not let threads run in this process.
    """
    _check_uwsgi()
    return _BareThread(target) if is_patched() else threading.Thread(target=target, name=name, daemon=True)


def is_patched() -> bool:
    """Whether a library has replaced Python's threads by greenlets."""
    return _thread.start_new_thread is not start_new_thread


def patched_by() -> str:
    """Return the name of the library that has replaced threads by greenlets, for a message."""
    return next((name for name in _LIBRARIES if name in sys.modules), "another library")


class Lock(Protocol):
    """A lock between real threads. While you hold it, do not call code that may switch to another greenlet."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:  # noqa: FBT001 - the name
        """See `threading.Lock`."""

    def release(self) -> None:
        """See `threading.Lock`."""

    def locked(self) -> bool:
        """See `threading.Lock`."""

    def __enter__(self) -> bool: ...

    def __exit__(self, *_: object) -> None: ...


class Rest:
    """
    A caller's wait for a real thread; if the caller is a greenlet, other greenlets run meanwhile.

    It uses a socket: locks of greenlets are not safe between threads, and `select` fails in a process with many
    descriptors.
    """

    def __init__(self) -> None:
        ended, end = _socket.socketpair()
        # `socket.socket`, which gevent replaces, and not `Socket`: only a wait for it lets other greenlets run.
        self._ended = socket.socket(fileno=ended.detach())
        self._ended.settimeout(None)
        self._end = end.detach()

    def wait(self) -> None:
        """Return after `end` was called. Call this once, in the thread that made the object."""
        try:
            self._ended.recv(1)
        finally:
            self._ended.close()

    def end(self) -> None:
        """End the wait. Call this once, from any thread."""
        close(self._end)


def socketpair() -> tuple[Socket, Socket]:
    """Return a pair of `Socket`; even the original `socket.socketpair` would return sockets of gevent."""
    first, second = _socket.socketpair()
    return Socket(fileno=first.detach()), Socket(fileno=second.detach())


class _BareThread:
    """The part of `threading.Thread` that this package needs, made of a real thread."""

    def __init__(self, target: Callable[[], object]) -> None:
        self._target = target
        self._running = allocate_lock()

    def start(self) -> None:
        self._running.acquire()
        start_new_thread(self._run, ())

    def join(self) -> None:
        with self._running:
            pass

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._running.release()


def _check_uwsgi() -> None:
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "has_threads", True):
        raise UnsupportedError(
            "this uWSGI process runs threads only during requests, but the store needs one that always runs; "
            "start uWSGI with --enable-threads (or --threads)"
        )


def _original(module: str, name: str) -> Any:
    """Return the object that a module had under this name before gevent or eventlet replaced it."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_object_patched(module, name):
        return gevent.get_original(module, name)
    if eventlet is not None and eventlet.is_monkey_patched({"_thread": "thread"}.get(module, module)):
        return getattr(eventlet.original(module), name)
    return getattr(import_module(module), name)


start_new_thread = _original("_thread", "start_new_thread")
allocate_lock: Callable[[], Lock] = _original("_thread", "allocate_lock")
get_ident = _original("_thread", "get_ident")
sleep: Callable[[float], None] = _original("time", "sleep")
close: Callable[[int], None] = _original("os", "close")
"""The original `os.close`: gevent's lets its loop close the descriptor, but no real thread runs that loop."""
if TYPE_CHECKING:
    Socket = socket.socket
else:
    Socket = _original("socket", "socket")
getaddrinfo = _original("socket", "getaddrinfo")
poll = _original("select", "poll")
RLock = _thread.RLock
SimpleQueue = _queue.SimpleQueue


class _PollSelector(selectors._PollLikeSelector):  # noqa: SLF001 - the public ones are patched
    _selector_cls = poll
    _EVENT_READ = select.POLLIN
    _EVENT_WRITE = select.POLLOUT


Selector: type[selectors.BaseSelector] = _PollSelector if is_patched() else selectors.DefaultSelector
