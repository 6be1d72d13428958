"""The raid: at random moments processes are killed, or stopped for longer than their lease."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from random import Random

from msgspec import Struct

from proofs.soak.fleet import Fleet

_EARLIEST, _LATEST = 0.02, 0.9
"""Parts of the jobs that have ended when the first and the last blow may fall."""
_LONGEST_WAIT = 0.3
_LOOK = 0.05
_AIM, _PATIENCE = 5.0, 60.0
"""Seconds for which a worker with a run under way is looked for, and then any worker."""


class Kind(StrEnum):
    """A harm to a process."""

    WORKER_KILLED = "worker killed"
    SUPERVISOR_KILLED = "supervisor killed"
    WORKER_STOPPED = "worker stopped"


class Blow(Struct, frozen=True, kw_only=True):
    """The harm to a process, and when (monotonic, seconds): just before it was killed, just after it stopped."""

    kind: Kind
    pid: int
    at: float


class Plan(Struct, frozen=True, kw_only=True):
    """How many blows of each kind fall while so many jobs are done. A stop lasts a time between `stop_seconds`."""

    jobs: int
    worker_kills: int
    supervisor_kills: int
    stops: int = 0
    stop_seconds: tuple[float, float] = (0.0, 0.0)

    def draw(self, random: Random) -> list[tuple[int, Kind]]:
        """Return the blows in order, each with the number of ended jobs at which it falls."""
        kinds = (
            [Kind.WORKER_KILLED] * self.worker_kills
            + [Kind.SUPERVISOR_KILLED] * self.supervisor_kills
            + [Kind.WORKER_STOPPED] * self.stops
        )
        random.shuffle(kinds)
        range_of_goals = range(int(self.jobs * _EARLIEST), max(int(self.jobs * _LATEST), len(kinds) * 2))
        return list(zip(sorted(random.sample(range_of_goals, len(kinds))), kinds, strict=True))


class Raid:
    """Carries out a plan on a fleet. `ended` tells how many jobs have ended."""

    def __init__(self, plan: Plan, fleet: Fleet, *, ended: Callable[[], Awaitable[int]], random: Random) -> None:
        self.blows: list[Blow] = []
        self._plan = plan
        self._fleet = fleet
        self._ended = ended
        self._random = random
        self._stopped: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Return when all blows have fallen, and who was stopped goes on."""
        for goal, kind in self._plan.draw(self._random):
            while await self._ended() < goal:  # noqa: ASYNC110 - the workers are other processes
                await asyncio.sleep(_LOOK)
            # At any moment of the workers' work, not only between two looks of this proof.
            await asyncio.sleep(self._random.uniform(0, _LONGEST_WAIT))
            await self._strike(kind)
        await asyncio.gather(*self._stopped)

    async def _strike(self, kind: Kind) -> None:
        if kind is Kind.SUPERVISOR_KILLED:
            at = time.monotonic()
            self.blows.append(Blow(kind=kind, pid=self._fleet.kill_supervisor(), at=at))
            self._fleet.supervise()
            return
        began = time.monotonic()
        # Every second blow finds a worker as it is, which may have nothing in hand: after a kill it has just started.
        aim = 0.0 if len(self.blows) % 2 else _AIM
        while not self._strike_worker(kind, is_at_work=time.monotonic() < began + aim):
            if time.monotonic() > began + _PATIENCE:
                raise RuntimeError(f"no worker was there to be hit for {_PATIENCE:g} s")
            await asyncio.sleep(_LOOK)

    def _strike_worker(self, kind: Kind, *, is_at_work: bool) -> bool:
        workers = self._fleet.at_work() if is_at_work else self._fleet.workers()
        if not workers:
            return False
        pid, at = self._random.choice(workers), time.monotonic()
        try:
            if kind is Kind.WORKER_KILLED:
                os.kill(pid, signal.SIGKILL)
            elif self._fleet.has_stopped(pid):
                at = time.monotonic()
            else:
                return False
        except ProcessLookupError:
            return False
        self.blows.append(Blow(kind=kind, pid=pid, at=at))
        if kind is Kind.WORKER_STOPPED:
            self._stopped.add(asyncio.create_task(self._let_go_on(pid)))
        return True

    async def _let_go_on(self, pid: int) -> None:
        await asyncio.sleep(self._random.uniform(*self._plan.stop_seconds))
        # It may have been killed meanwhile.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
