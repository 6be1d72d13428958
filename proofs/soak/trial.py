"""The trial: a fleet works jobs off while harm is done to it, from its first process to its last."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.protocol import QueueCounts
from deeper_tasks.errors import BackendUnavailableError
from proofs.soak.app import WORK, tick
from proofs.soak.evidence import Evidence
from proofs.soak.fleet import Fleet
from proofs.soak.journal import read_acknowledgements, read_journal
from proofs.soak.raid import Blow
from proofs.soak.runs import all_jobs, runs_of

_PRODUCERS = 2
_LOOK = 0.1
_PATIENCE = 90.0


class StuckError(Exception):
    """A condition did not come true in time."""


class Trial:
    """
    So many jobs for a fleet. The manager must be open, and may lose its store for a while: counts stay as they were.

    `took` is the time (seconds) in which the jobs ended and the harm was done,
    `faults` says what went wrong in this and afterwards. `on_progress` is called with
    how many of the jobs have ended.
    """

    def __init__(
        self,
        fleet: Fleet,
        manager: BackgroundTaskManager,
        *,
        jobs: int,
        seed: int,
        on_progress: Callable[[int], None],
    ) -> None:
        self.faults: list[str] = []
        self.took = 0.0
        self._fleet = fleet
        self._manager = manager
        self._jobs = jobs
        self._seed = seed
        self._on_progress = on_progress
        self._queues: Mapping[str, QueueCounts] = {}

    async def run(self, *harm: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do all of it. Harm that is still to come when something is stuck is cancelled."""
        self._start()
        try:
            await self._work_off(harm)
            await self._close_down()
        except (StuckError, RuntimeError) as error:
            self.faults.append(str(error))
            self._fleet.end()

    async def ended(self) -> int:
        """Return how many jobs have ended but for the recurring ones."""
        await self._look()
        return self._ended()

    async def moved(self) -> int:
        """Return how many jobs have ended, the recurring too."""
        await self._look()
        return sum(_terminal(queue) for queue in self._queues.values())

    async def evidence(self, *, blows: Sequence[Blow], unique_keys: int, integrity: Sequence[str] = ()) -> Evidence:
        """Collect what is left when all is over."""
        backend = self._manager.backend
        jobs = [job async for job in all_jobs(backend)]
        entries = {entry.schedule.name: entry for entry in (await backend.schedules()).entries}
        return Evidence(
            jobs={job.id: job for job in jobs},
            runs=runs_of(jobs, read_journal(self._fleet.journal)),
            acknowledged=read_acknowledgements(self._fleet.acknowledged),
            blows=blows,
            counts=await backend.statistics(),
            schedule=entries.get(tick.name),
            unique_keys=unique_keys,
            integrity=integrity,
            boot=time.time() - time.monotonic(),
            slots=self._fleet.slots,
        )

    def _start(self) -> None:
        self._fleet.supervise()
        each, rest = divmod(self._jobs, _PRODUCERS)
        for number in range(_PRODUCERS):
            self._fleet.produce(each + (number < rest), seed=f"{self._seed} {number}")

    async def _work_off(self, harm: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        started = moved_at = time.monotonic()
        ended = 0
        doing = [asyncio.create_task(each()) for each in harm]
        try:
            while not (self._fleet.has_produced() and all(each.done() for each in doing) and await self._is_idle()):
                await self._look()
                # Harm may take its time when there is nothing left to be done.
                if self._ended() > ended or not self._left():
                    ended, moved_at = self._ended(), time.monotonic()
                    self._on_progress(ended)
                if time.monotonic() - moved_at > _PATIENCE:
                    raise StuckError(f"no job ended for {_PATIENCE:g} s, and {self._left()} are left")
                await asyncio.sleep(_LOOK)
        finally:
            for each in doing:
                each.cancel()
            await asyncio.wait(doing)
            self.took = time.monotonic() - started
        for each in doing:
            each.result()

    async def _close_down(self) -> None:
        """Have the last jobs end, and then all processes."""
        await self._until("the fleet was not whole", self._is_whole)
        await self._manager.pause_recurring_task(tick.name)
        await self._until("jobs were left", self._has_ended)
        code = self._fleet.stop()
        nodes = await self._manager.backend.nodes()
        left = self._fleet.alive()
        self.faults += [
            *([f"the supervisor ended with exit code {code}"] if code else []),
            *([f"{len(nodes)} workers are still registered, though all have stopped"] if nodes else []),
            *([f"processes are left: {left}"] if left else []),
        ]

    async def _is_whole(self) -> bool:
        """Whether there are exactly the worker processes that should be, for the store too."""
        nodes = {record.node.pid for record in await self._manager.backend.nodes()}
        return self._fleet.is_whole() and nodes == set(self._fleet.workers())

    async def _is_idle(self) -> bool:
        """Whether the store answers, and has no job left but for the recurring ones."""
        return await self._look() and not self._left()

    async def _has_ended(self) -> bool:
        return await self._look() and not any(_live(queue) for queue in self._queues.values())

    async def _until(self, otherwise: str, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not await condition():
            if time.monotonic() > deadline:
                raise StuckError(f"{otherwise} after {_PATIENCE:g} s")
            await asyncio.sleep(_LOOK)

    async def _look(self) -> bool:
        """Take the counters of the store. Returns False when it is away."""
        try:
            self._queues = (await self._manager.backend.statistics()).queues
        except BackendUnavailableError:
            return False
        return True

    def _ended(self) -> int:
        return _terminal(self._queues[WORK]) if WORK in self._queues else 0

    def _left(self) -> int:
        return _live(self._queues[WORK]) if WORK in self._queues else 0


def _terminal(queue: QueueCounts) -> int:
    return sum(count for state, count in queue.by_state.items() if state.is_terminal)


def _live(queue: QueueCounts) -> int:
    return sum(count for state, count in queue.by_state.items() if not state.is_terminal)
