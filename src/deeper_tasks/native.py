"""Native: threads of the system and their locks, also where gevent or eventlet have put greenlets in their place."""

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
    """A thread that does not keep its process from ending."""

    def start(self) -> None:
        """Start it."""

    def join(self) -> None:
        """Wait for its end."""


def make_thread(target: Callable[[], object], *, name: str) -> Thread:
    """
    Return a new thread of the system, whatever `threading` means by now.

    Raises:
        UnsupportedError: uWSGI lets no thread run.
    """
    _check_uwsgi()
    return _BareThread(target) if is_patched() else threading.Thread(target=target, name=name, daemon=True)


def is_patched() -> bool:
    """Whether threads that Python code starts are greenlets by now."""
    return _thread.start_new_thread is not start_new_thread


def patched_by() -> str:
    """Return the library that has put greenlets in the place of threads, for a message."""
    return next((name for name in _LIBRARIES if name in sys.modules), "another library")


class Lock(Protocol):
    """A lock between threads of the system. Do nothing while you hold it that may let another greenlet go on."""

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
    A caller's wait for a thread of the system: where callers are greenlets, the others go on meanwhile.

    A socket, as no lock of greenlets is safe between threads, and `select` fails in a process with many descriptors.
    """

    def __init__(self) -> None:
        ended, end = _socket.socketpair()
        # Not `Socket`: it is one of the library's that lets others go on.
        self._ended = socket.socket(fileno=ended.detach())
        self._ended.settimeout(None)
        self._end = end.detach()

    def wait(self) -> None:
        """Return at its end. Wait once, and in the thread that made it."""
        try:
            self._ended.recv(1)
        finally:
            self._ended.close()

    def end(self) -> None:
        """End it, once, from any thread."""
        close(self._end)


def socketpair() -> tuple[Socket, Socket]:
    """Return a pair of `Socket`: what `socket.socketpair` was makes the sockets that the library has."""
    first, second = _socket.socketpair()
    return Socket(fileno=first.detach()), Socket(fileno=second.detach())


class _BareThread:
    """What `threading.Thread` is where it is no greenlet, as far as it is needed."""

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
            "this uWSGI process lets threads run only while a request does, and the store needs one that goes on: "
            "start uWSGI with --enable-threads (or --threads)"
        )


def _original(module: str, name: str) -> Any:
    """Return what a module had before it was patched."""
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
"""gevent's has the descriptor closed later, by a loop that no thread of ours runs: that is never."""
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
