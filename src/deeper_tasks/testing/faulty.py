"""A faulty store: any store, with the outages, lost answers, delays and lost hints that a test asks for."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self

from deeper_tasks.backends.protocol import Backend, Notification, Transacting
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.proxy import Proxy

_METHODS = frozenset(
    name
    for protocol in (Backend, Transacting)
    for name, _ in inspect.getmembers(protocol, inspect.isfunction)
    if not name.startswith("_")
)
_NEVER_RAISE = frozenset({"listen"})
_OUTAGE = _METHODS - _NEVER_RAISE - {"close"}


class Call(NamedTuple):
    """The arguments of one call of a faulty store."""

    args: tuple[Any, ...]
    options: dict[str, Any]


Effect = Callable[[str, Call], Awaitable[None]]


class Fault:
    """
    A fault of some calls, until `end` is called or a `with` block ends.

    `hits` counts the calls that had the fault.
    """

    def __init__(
        self,
        faulty: FaultyBackend,
        methods: frozenset[str],
        *,
        before: Effect | None = None,
        after: Effect | None = None,
        on_call: int = 1,
        times: int | None = None,
        chance: float = 1.0,
    ) -> None:
        self.hits = 0
        self._faulty = faulty
        self._methods = methods
        self._before = before
        self._after = after
        self._to_come = on_call
        self._times = times
        self._chance = chance
        self._is_over = False
        self._lock = threading.Lock()
        self._held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def is_over(self) -> bool:
        """Whether the fault has ended."""
        return self._is_over

    def end(self) -> None:
        """End the fault; calls that are held go on."""
        with self._lock:
            self._is_over = True
            held, self._held = self._held, []
        for loop, is_over in held:
            loop.call_soon_threadsafe(is_over.set)
        self._faulty.forget(self)

    async def wait_until_over(self) -> None:
        """Wait for `end`, in any event loop."""
        is_over = asyncio.Event()
        with self._lock:
            if self._is_over:
                return
            self._held.append((asyncio.get_running_loop(), is_over))
        await is_over.wait()

    def strikes(self, method: str, random: Random) -> bool:
        """Count a call; return whether it has the fault."""
        if self.is_over or method not in self._methods:
            return False
        self._to_come -= 1
        if self._to_come > 0 or (self._chance < 1 and random.random() >= self._chance):
            return False
        self.hits += 1
        if self._times is not None and self.hits >= self._times:
            self.end()
        return True

    async def before(self, method: str, call: Call) -> None:
        """Apply the fault before the store has the call."""
        if self._before is not None:
            await self._before(method, call)

    async def after(self, method: str, call: Call) -> None:
        """Apply the fault after the store has done the call."""
        if self._after is not None:
            await self._after(method, call)


class FaultyBackend(Proxy):
    """
    A store that has faults on request. Each fault is added by one method, and lasts until it is ended.

        faulty = FaultyBackend(MemoryBackend())
        with faulty.fail("insert"):                     # every insert, while the block lasts
            ...
        faulty.fail("settle", on_call=3)                # the third from now, once
        faulty.fail("claim", chance=0.1)                # one in ten, always the same ones for one `seed`
        faulty.fail("insert", times=1, is_reply_lost=True)  # the store does it, and the answer is lost

    `calls` lists all calls in order, each with its method. `delay` waits by `sleep`.
    """

    def __init__(
        self, backend: Backend, *, seed: int = 0, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        super().__init__(backend)
        self.calls: list[tuple[str, Call]] = []
        self._random = Random(seed)  # noqa: S311 - the same faults for the same seed
        self._sleep = sleep
        self._counting = threading.Lock()
        self._faults: list[Fault] = []
        self._deaf: list[Fault] = []

    def fail(
        self,
        *methods: str,
        on_call: int = 1,
        times: int | None = None,
        chance: float = 1.0,
        is_reply_lost: bool = False,
        error: Exception | None = None,
    ) -> Fault:
        """
        Have calls of these methods, or of all, raise `BackendUnavailableError`, or `error`.

        The first that fails is the `on_call`-th from now; where that is not the
        first, `times` is 1 unless given, and otherwise without end. `chance`
        spares the rest at random. `is_reply_lost`: the store does what was asked
        before the error. An outage of all methods drops hints too.
        """
        _check(on_call=on_call, times=times, chance=chance)
        for method in _NEVER_RAISE.intersection(methods):
            raise ValueError(f"{method!r} never raises in any store; drop its hints with drop_notifications()")

        async def strike(method: str, call: Call) -> None:
            raise error or _unavailable(method, call, is_reply_lost=is_reply_lost)

        if times is None and on_call > 1:
            times = 1
        fault = Fault(
            self,
            _known(methods) or _OUTAGE,
            **{"after" if is_reply_lost else "before": strike},
            on_call=on_call,
            times=times,
            chance=chance,
        )
        if not methods and times is None and chance == 1:
            self._deaf.append(fault)
        return self._add(fault)

    def delay(self, *methods: str, seconds: float | timedelta, chance: float = 1.0) -> Fault:
        """Have calls of these methods, or of all, take this much longer."""
        _check(chance=chance)
        pause = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds

        async def wait(_method: str, _call: Call) -> None:
            await self._sleep(pause)

        return self._add(Fault(self, _known(methods) or _OUTAGE, before=wait, chance=chance))

    def hold(self, *methods: str) -> Fault:
        """Have the answers of these methods, or of all, wait until the fault is ended."""

        async def wait(_method: str, _call: Call) -> None:
            await fault.wait_until_over()

        fault = Fault(self, _known(methods) or _OUTAGE, after=wait)
        return self._add(fault)

    def drop_notifications(self) -> Fault:
        """Lose every hint, sent or to be received."""
        fault = Fault(self, frozenset())
        self._deaf.append(fault)
        return fault

    def restore(self) -> None:
        """End all faults."""
        for fault in (*self._faults, *self._deaf):
            fault.end()

    def called(self, method: str) -> list[Call]:
        """Return the calls of a method that came, in order."""
        _known((method,))
        return [call for name, call in self.calls if name == method]

    def forget(self, fault: Fault) -> None:
        """Drop a fault that is over."""
        self._faults = [each for each in self._faults if each is not fault]
        self._deaf = [each for each in self._deaf if each is not fault]

    async def listen(self, **options: Any) -> AsyncIterator[Notification]:
        """Yield the hints that are not lost."""
        notifications = self.backend.listen(**options)
        try:
            async for notification in notifications:
                if not self._deaf:
                    yield notification
        finally:
            if isinstance(notifications, AsyncGenerator):
                await notifications.aclose()

    async def _pass_on(self, method: str, /, *args: Any, **options: Any) -> Any:
        call = Call(args, options)
        self.calls.append((method, call))
        # Counted by one call at a time: a worker's heartbeat comes from a thread of its own.
        with self._counting:
            struck = [fault for fault in tuple(self._faults) if fault.strikes(method, self._random)]
        for fault in struck:
            await fault.before(method, call)
        answer = await super()._pass_on(method, *args, **options)
        for fault in struck:
            await fault.after(method, call)
        return answer

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault


def _unavailable(method: str, call: Call, *, is_reply_lost: bool) -> BackendUnavailableError:
    jobs = call.args[0] if method == "insert" else ()
    what = "did it, and its answer was lost" if is_reply_lost else "does not answer"
    return BackendUnavailableError(
        f"the store {what} ({method}): a fault of this test", request_ids=tuple(job.request_id for job in jobs)
    )


def _known(methods: tuple[str, ...]) -> frozenset[str]:
    for method in methods:
        if method not in _METHODS:
            raise ValueError(f"a store has no method {method!r}; there are {', '.join(sorted(_METHODS))}")
    return frozenset(methods)


def _check(*, on_call: int = 1, times: int | None = None, chance: float = 1.0) -> None:
    if on_call < 1:
        raise ValueError(f"on_call cannot be {on_call!r}: calls count from 1")
    if times is not None and times < 1:
        raise ValueError(f"times cannot be {times!r}; give 1 or more, or leave it out")
    if not 0 < chance <= 1:
        raise ValueError(f"chance cannot be {chance!r}; give more than 0, and at most 1")
