"""The faults: what befalls the server, its sessions or the network for some seconds, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection

from servers.postgres import Mode, PostgresServer
from servers.proxy import Proxy, Way

_EARLIEST, _LATEST = 0.03, 0.9
"""Parts of the jobs that have ended when the first and the last fault may come."""
_LOOK = 0.05
_PATIENCE = 90.0

LIBRARY_SESSIONS = "application_name = 'deeper_tasks' AND pid <> pg_backend_pid()"
TERMINATE = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LIBRARY_SESSIONS}"
HOLD = (
    "SELECT FROM deeper.job WHERE state = 4 ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED",
    "SELECT FROM deeper.job WHERE state = 3 ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED",
    "SELECT FROM deeper.node ORDER BY id LIMIT 1 FOR UPDATE",
    "SELECT FROM deeper.counter FOR UPDATE",
)
"""Rows of jobs that run, and that wait, of one worker, and of the counters."""


class Kind(StrEnum):
    """The part that fails."""

    RESTARTED = "server restarted"
    STOPPED = "server stopped at once"
    CRASHED = "server killed"
    TERMINATED = "sessions terminated"
    EXHAUSTED = "connections used up"
    HELD = "rows held by an idle transaction"
    HUNG = "network hung"
    MUTE = "requests lost their way"
    DEAF = "replies lost their way"


class Fault(Struct, frozen=True, kw_only=True):
    """One fault, from when it began to when its cause was gone (monotonic, seconds)."""

    kind: Kind
    began: float
    ended: float


class Site(Struct, frozen=True, kw_only=True):
    """Where it happens: the server, the network that leads to it, and the URL that leads around that."""

    server: PostgresServer
    proxy: Proxy
    url: str


class Outages:
    """
    Carries the faults out, each kind `rounds` times, spread over the work.

    `ended` tells how many of `jobs` have ended, `moved` how many of all, the
    recurring too. A fault comes only after some have since the one before.
    """

    def __init__(
        self,
        site: Site,
        *,
        rounds: int,
        seconds: tuple[float, float],
        jobs: int,
        ended: Callable[[], Awaitable[int]],
        moved: Callable[[], Awaitable[int]],
        random: Random,
    ) -> None:
        self.faults: list[Fault] = []
        self._site = site
        self._seconds = seconds
        self._jobs = jobs
        self._ended = ended
        self._moved = moved
        self._random = random
        self._kinds = [kind for kind in Kind for _ in range(rounds)]
        self._happening: dict[Kind, Callable[[], AbstractAsyncContextManager[None]]] = {
            Kind.RESTARTED: partial(self._stopped, "fast"),
            Kind.STOPPED: partial(self._stopped, "immediate"),
            Kind.CRASHED: partial(self._stopped, "kill"),
            Kind.TERMINATED: self._terminated,
            Kind.EXHAUSTED: self._exhausted,
            Kind.HELD: self._held,
            Kind.HUNG: partial(self._hung, "requests", "replies"),
            Kind.MUTE: partial(self._hung, "requests"),
            Kind.DEAF: partial(self._hung, "replies"),
        }

    async def run(self) -> None:
        """Return when all are over."""
        self._random.shuffle(self._kinds)
        span = range(int(self._jobs * _EARLIEST), int(self._jobs * _LATEST))
        for goal, kind in zip(sorted(self._random.choices(span, k=len(self._kinds))), self._kinds, strict=True):
            await _until(self._ended, goal)
            # At any moment of the workers' work, not only between two looks of this proof.
            await asyncio.sleep(self._random.uniform(0, 0.3))
            began = time.monotonic()
            async with self._happening[kind]():
                if kind is not Kind.TERMINATED:
                    await asyncio.sleep(self._random.uniform(*self._seconds))
            self.faults.append(Fault(kind=kind, began=began, ended=time.monotonic()))
            await _until(self._moved, await self._moved() + 1)

    @asynccontextmanager
    async def _stopped(self, mode: Mode) -> AsyncIterator[None]:
        await asyncio.to_thread(self._site.server.stop, mode)
        yield
        await asyncio.to_thread(self._site.server.start)

    @asynccontextmanager
    async def _terminated(self) -> AsyncIterator[None]:
        async with self._session() as session:
            await session.execute(TERMINATE)
        yield

    @asynccontextmanager
    async def _exhausted(self) -> AsyncIterator[None]:
        """Take all connections there are, then those of the workers, which are ended until none is left to them."""
        async with AsyncExitStack() as taken:
            session = await taken.enter_async_context(self._session())
            taking = asyncio.create_task(self._take_all(taken, session))
            try:
                yield
            finally:
                taking.cancel()
                await asyncio.wait([taking])

    async def _take_all(self, taken: AsyncExitStack, session: AsyncConnection[Any]) -> None:
        while True:
            try:
                await taken.enter_async_context(self._session())
            except psycopg.OperationalError:
                await session.execute(TERMINATE)
                await asyncio.sleep(_LOOK / 10)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        async with self._session() as session, session.transaction(force_rollback=True):
            for statement in HOLD:
                await session.execute(statement)
            yield

    @asynccontextmanager
    async def _hung(self, *ways: Way) -> AsyncIterator[None]:
        await asyncio.to_thread(self._site.proxy.hang, *ways)
        yield
        await asyncio.to_thread(self._site.proxy.resume)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncConnection[Any]]:
        session = await AsyncConnection.connect(self._site.url, autocommit=True)
        try:
            yield session
        finally:
            with suppress(psycopg.Error):
                await session.close()


async def _until(count: Callable[[], Awaitable[int]], goal: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while await count() < goal:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no job ended for {_PATIENCE:g} s")
        await asyncio.sleep(_LOOK)
