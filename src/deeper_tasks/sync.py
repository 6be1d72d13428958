"""Sync: blocking calls of the async facade, by an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future  # noqa: TID251 - for callers whose threads are threads
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, TypeVarTuple, Unpack

from deeper_tasks import native
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.forks import process_watch
from deeper_tasks.lasting import lasting
from deeper_tasks.run_in_thread import run_in_thread

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Ts = TypeVarTuple("Ts")


class LoopThread:
    """
    An event loop in a thread, started at the first call.

    Callers may stand inside a running loop of their own, which they then block.
    After a fork the child starts its own.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = native.allocate_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: native.Thread | None = None
        self._ident = 0
        self._calls = 0
        process_watch.add(self)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """
        Run a coroutine to its end and return its result, or raise what it raised.

        Where the wait for it is interrupted, as by Ctrl-C, the coroutine is cancelled.

        Raises:
            RuntimeError: the caller stands in this very thread, and would wait for itself.
        """
        process_watch.notice()
        if native.get_ident() == self._ident:
            coroutine.close()
            raise RuntimeError(
                f"a blocking call would wait forever in the thread {self._name!r}, which runs such calls itself; "
                "from a subscriber of the manager, for example, await the async method in a task instead"
            )
        if native.is_patched():
            return self._run_from_greenlet(coroutine)
        future = self._begin(coroutine, lambda loop: asyncio.run_coroutine_threadsafe(coroutine, loop))
        try:
            return future.result()
        finally:
            future.cancel()
            self._end()

    def submit(self, coroutine: Coroutine[Any, Any, R]) -> Future[R]:
        """Have a coroutine run, without waiting for it."""
        future = self._begin(coroutine, lambda loop: asyncio.run_coroutine_threadsafe(coroutine, loop))
        future.add_done_callback(lambda _: self._end())
        return future

    def call_soon(self, function: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Have a function called in the loop, without waiting for it; after `stop` it may not be."""
        with suppress(RuntimeError), self._lock:
            self._running_loop().call_soon_threadsafe(function, *args)

    @property
    def is_running(self) -> bool:
        """Whether a call has started it since it was made or stopped."""
        return self._loop is not None

    def stop(self) -> None:
        """End the loop and its thread; if calls are under way in it, it goes on, until the next `stop`."""
        with self._lock:
            if self._calls:
                return
            loop, thread, self._loop, self._ident = self._loop, self._thread, None, 0
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _begin(self, coroutine: Coroutine[Any, Any, Any], start: Callable[[asyncio.AbstractEventLoop], T]) -> T:
        """Begin a call in the loop, which `stop` leaves alone until the call's `_end`."""
        try:
            with self._lock:
                begun = start(self._running_loop())
                self._calls += 1
                return begun
        except BaseException:
            coroutine.close()
            raise

    def _end(self) -> None:
        with self._lock:
            self._calls -= 1

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, started once. The caller holds the lock."""
        if self._loop is None:
            serve = lasting(lambda: self._serve(loop), name=self._name)
            # First: where there can be no threads it raises.
            thread = native.make_thread(serve, name=self._name)
            loop = _NativeLoop(native.Selector()) if native.is_patched() else asyncio.new_event_loop()
            self._loop = loop
            self._thread = thread
            thread.start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        # Unless it was stopped while an exception had the thread begin anew.
        if self._loop is loop:
            self._ident = native.get_ident()
            loop.run_forever()

    def _run_from_greenlet(self, coroutine: Coroutine[Any, Any, R]) -> R:
        rest = native.Rest()
        tasks: list[asyncio.Task[R]] = []

        def start(loop: asyncio.AbstractEventLoop) -> None:
            task = loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(lambda _: rest.end())

        def begin(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
            loop.call_soon_threadsafe(start, loop)
            return loop

        def give_up() -> None:
            tasks[0].cancel()

        loop = self._begin(coroutine, begin)
        try:
            rest.wait()
        except BaseException:
            loop.call_soon_threadsafe(give_up)
            raise
        finally:
            self._end()
        return tasks[0].result()

    def forget_parent(self) -> None:
        """In the child of a fork: the parent's thread is not here, and its lock may be held forever."""
        self._lock = native.allocate_lock()
        self._loop = self._thread = None
        self._ident = self._calls = 0


class _NativeLoop(asyncio.SelectorEventLoop):
    """
    A loop that uses nothing of what may be patched.

    It has calls made in threads of the system, as those of `concurrent.futures` may be greenlets. A socket or a name
    server of a library's would bring that library's own loop into this one's thread, where nothing runs it.
    """

    _ssock: native.Socket | None
    _csock: native.Socket | None
    _internal_fds: int

    def _make_self_pipe(self) -> None:
        self._ssock, self._csock = native.socketpair()
        for each in (self._ssock, self._csock):
            each.setblocking(False)
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)  # type: ignore[attr-defined]

    async def getaddrinfo(  # noqa: PLR0913 - the signature is asyncio's
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return await self.run_in_executor(None, native.getaddrinfo, host, port, family, type, proto, flags)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], R], *args: *Ts
    ) -> asyncio.Future[R]:
        if executor is None:
            return self.create_task(run_in_thread(partial(func, *args)))
        return super().run_in_executor(executor, func, *args)


def run_here(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that has nothing to wait for to its end, in this thread and without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        coroutine.close()
    raise InvalidOptionError(
        "option 'connection' cannot be an async connection here: await the method of the manager, not of manager.sync"
    )


class HasLoop(Protocol[T_co]):
    """A holder of `blocking` methods: it has a loop thread, and the async object whose methods they call."""

    _loop: LoopThread

    @property
    def _behind(self) -> T_co:
        """The async object."""

    def _prepare(self) -> None:
        """Do what has to be waited for before the first use."""


def carry_out(holder: HasLoop[Any], coroutine: Coroutine[Any, Any, R], *, connection: object) -> R:
    """Run a coroutine to its end in the loop's thread; with a caller's `connection`, in the caller's."""
    if connection is None:
        return holder._loop.run(coroutine)  # noqa: SLF001 - what the protocol is for
    try:
        holder._prepare()  # noqa: SLF001 - as above
    except BaseException:
        coroutine.close()
        raise
    return run_here(coroutine)


def blocking(
    method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[HasLoop[T], P], R]:
    """
    Return the blocking form of an async method: the same arguments, result, errors and docs.

    It runs in the loop's thread. With a `connection`, which belongs to the
    caller's, it runs in that one: what has to be waited for is done before.
    """

    @wraps(method)
    def call(self: HasLoop[T], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return carry_out(self, method(self._behind, *args, **kwargs), connection=kwargs.get("connection"))

    return call
