"""The command `soak`: thousands of jobs while processes are killed, and the report of what came of it."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.domain.state import State
from proofs.soak.app import WORK, tick
from proofs.soak.examination import Evidence
from proofs.soak.fleet import Fleet
from proofs.soak.journal import read_acknowledgements, read_journal
from proofs.soak.raid import Plan, Raid
from proofs.soak.report import Report, log_faults, sum_up
from proofs.soak.runs import all_jobs, runs_of

_SLOTS = 4
_PRODUCERS = 2
_LOOK = 0.1
_PATIENCE = 90.0
_HEARTBEAT, _LEASE = 0.5, 4.0
_STOP = (_LEASE, _LEASE + 2)
"""Whoever wakes just when others have begun to run its jobs is the most dangerous."""
_UNIQUE_KEYS = "SELECT count(*) FROM deeper_unique_key"


class StuckError(Exception):
    """What should have come true did not."""


@click.command()
@click.option("--jobs", type=click.IntRange(min=100), default=10_000, show_default=True, help="Enqueues.")
@click.option("--processes", type=click.IntRange(min=1), default=4, show_default=True, help="Of the workers.")
@click.option("--worker-kills", type=click.IntRange(min=0), default=20, show_default=True)
@click.option("--supervisor-kills", type=click.IntRange(min=0), default=5, show_default=True)
@click.option("--stops", type=click.IntRange(min=0), default=0, help="Of workers, for longer than their lease.")
@click.option("--seed", type=int, help="Of the work and of the blows; without it another one each time.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder, to be made, for the store, the journal and the logs.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the report.")
def soak(
    *,
    jobs: int,
    processes: int,
    worker_kills: int,
    supervisor_kills: int,
    stops: int,
    seed: int | None,
    keep: Path | None,
    is_json: bool,
) -> None:
    """
    Run jobs of every kind on one SQLite file, while workers and their supervisor are killed with SIGKILL.

    A killed supervisor is started again, as systemd would. In the end every acknowledged job must have ended
    as it was meant to, by an attempt whose handler returned; no attempt may have run twice, none at the
    same time as the next; what was run again is bounded by what the killed had in hand; counters, unique
    keys and due times must agree, the database be whole, and no process be left.
    """
    seed = Random().randrange(1_000_000) if seed is None else seed
    plan = Plan(
        jobs=jobs, worker_kills=worker_kills, supervisor_kills=supervisor_kills, stops=stops, stop_seconds=_STOP
    )
    settings = {"heartbeat_seconds": _HEARTBEAT, "lease_seconds": _LEASE} if stops else {}
    with folder_to_keep(keep) as folder, Progress(console=Console(stderr=True), disable=is_json) as progress:
        fleet = Fleet(folder, processes=processes, slots=_SLOTS, **settings)
        bar = progress.add_task("soaking", total=jobs)
        soaking = _Soak(fleet, plan, seed=seed, on_progress=lambda done: progress.update(bar, completed=done))
        try:
            report = asyncio.run(soaking.run())
        finally:
            fleet.end()
    if is_json:
        click.echo(msgspec.json.encode(report))
    else:
        report.show()
    raise SystemExit(0 if report.is_proved else 1)


@contextmanager
def folder_to_keep(keep: Path | None) -> Iterator[Path]:
    """Give the folder that was asked for, or one that is removed in the end."""
    if keep is not None:
        try:
            keep.mkdir(parents=True)
        except FileExistsError as error:
            raise click.BadParameter(f"{str(keep)!r} is there already; name a folder to be made") from error
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="deeper-soak-") as folder:
        yield Path(folder)


class _Soak:
    """One soak, from the first process to the report."""

    def __init__(self, fleet: Fleet, plan: Plan, *, seed: int, on_progress: Callable[[int], None]) -> None:
        self._fleet = fleet
        self._plan = plan
        self._seed = seed
        self._on_progress = on_progress
        self._manager = BackgroundTaskManager(fleet.url)
        self._raid = Raid(plan, fleet, ended=self._ended, random=Random(f"{seed} blows"))
        self._ended_before = 0
        self._moved_at = time.monotonic()

    async def run(self) -> Report:
        """Do all of it."""
        started = time.monotonic()
        faults: list[str] = []
        async with self._manager as manager:
            self._start()
            try:
                await self._work_off()
                took = time.monotonic() - started
                faults += await self._close_down()
            except (StuckError, RuntimeError) as error:
                took = time.monotonic() - started
                faults.append(str(error))
                self._fleet.end()
            faults += log_faults(self._fleet.said())
            return sum_up(await self._evidence(manager), faults=faults, seed=self._seed, took=took, plan=self._plan)

    def _start(self) -> None:
        self._fleet.supervise()
        each, rest = divmod(self._plan.jobs, _PRODUCERS)
        for number in range(_PRODUCERS):
            self._fleet.produce(each + (number < rest), seed=f"{self._seed} {number}")

    async def _work_off(self) -> None:
        raid = asyncio.create_task(self._raid.run())
        try:
            while not (self._fleet.has_produced() and raid.done() and await self._left() == 0):
                await self._ended()
                if time.monotonic() - self._moved_at > _PATIENCE:
                    raise StuckError(f"no job ended for {_PATIENCE:g} s, and {await self._left()} are left")
                await asyncio.sleep(_LOOK)
        finally:
            raid.cancel()
            await asyncio.wait([raid])
        raid.result()

    async def _close_down(self) -> list[str]:
        """Have the last jobs end and then all processes; returns what went wrong in it."""
        await self._until("the fleet was not whole", self._is_whole)
        await self._manager.pause_recurring_task(tick.name)
        await self._until("jobs were left", self._has_ended)
        code = self._fleet.stop()
        nodes = await self._manager.backend.nodes()
        left = self._fleet.alive()
        return [
            *([f"the supervisor ended with exit code {code}"] if code else []),
            *([f"{len(nodes)} workers are still registered, though all have stopped"] if nodes else []),
            *([f"processes are left: {left}"] if left else []),
        ]

    async def _is_whole(self) -> bool:
        """Whether there are exactly the worker processes that should be, for the store too."""
        nodes = {record.node.pid for record in await self._manager.backend.nodes()}
        return self._fleet.is_whole() and nodes == set(self._fleet.workers())

    async def _has_ended(self) -> bool:
        counts = await self._manager.backend.statistics()
        return not any(
            count
            for queue in counts.queues.values()
            for state, count in queue.by_state.items()
            if not state.is_terminal
        )

    async def _until(self, otherwise: str, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not await condition():
            if time.monotonic() > deadline:
                raise StuckError(f"{otherwise} after {_PATIENCE:g} s")
            await asyncio.sleep(_LOOK)

    async def _ended(self) -> int:
        ended = sum(count for state, count in (await self._counts()).items() if state.is_terminal)
        if ended > self._ended_before:
            self._ended_before, self._moved_at = ended, time.monotonic()
            self._on_progress(ended)
        return ended

    async def _left(self) -> int:
        return sum(count for state, count in (await self._counts()).items() if not state.is_terminal)

    async def _counts(self) -> dict[State, int]:
        queue = (await self._manager.backend.statistics()).queues.get(WORK)
        return {} if queue is None else queue.by_state

    async def _evidence(self, manager: BackgroundTaskManager) -> Evidence:
        backend = manager.backend
        jobs = [job async for job in all_jobs(manager.backend)]
        entries = {entry.schedule.name: entry for entry in (await backend.schedules()).entries}
        connection = sqlite3.connect(self._fleet.database)
        try:
            integrity = [line for (line,) in connection.execute("PRAGMA integrity_check")]
            ((unique_keys,),) = connection.execute(_UNIQUE_KEYS).fetchall()
        finally:
            connection.close()
        return Evidence(
            jobs={job.id: job for job in jobs},
            runs=runs_of(jobs, read_journal(self._fleet.journal)),
            acknowledged=read_acknowledgements(self._fleet.acknowledged),
            blows=self._raid.blows,
            counts=await backend.statistics(),
            schedule=entries.get(tick.name),
            unique_keys=unique_keys,
            integrity=integrity,
            boot=time.time() - time.monotonic(),
            slots=self._fleet.slots,
        )
