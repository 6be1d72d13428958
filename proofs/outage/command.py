"""The command `outage`: thousands of jobs on PostgreSQL while all that it stands on fails, and the report."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import click
import msgspec
import psycopg
from rich.console import Console
from rich.progress import Progress

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError
from proofs.outage.faults import Outages, Site
from proofs.outage.report import Report, sum_up, unstored
from proofs.soak.app import WORK, tick
from proofs.soak.command import StuckError, folder_to_keep
from proofs.soak.examination import Evidence
from proofs.soak.fleet import Fleet
from proofs.soak.journal import read_acknowledgements, read_journal
from proofs.soak.raid import Plan, Raid
from proofs.soak.report import log_faults
from proofs.soak.runs import all_jobs, runs_of

_PRODUCERS = 2
_LOOK = 0.1
_PATIENCE = 90.0
_SECONDS = (1.0, 6.0)
_SETTINGS = {"heartbeat_seconds": 0.5, "lease_seconds": 4.0}
"""A fault may last longer than a lease."""
_TIMEOUT = 2
_SERVER = {
    # What was committed outlives the server's processes, as on any server that is set up as it ought to be.
    "synchronous_commit": "on",
    # Few enough to be used up in a moment.
    "max_connections": "80",
}
_UNIQUE_KEYS = "SELECT count(*) FROM deeper.unique_key"
_EXPECTED = ("the store does not answer", "no hints from", "another transaction holds", "the process ended")


@click.command()
@click.option("--jobs", type=click.IntRange(min=100), default=20_000, show_default=True, help="Enqueues.")
@click.option("--workers", type=click.IntRange(min=1), default=3, show_default=True, help="Processes.")
@click.option("--slots", type=click.IntRange(min=1), default=8, show_default=True, help="Jobs of a worker at once.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often each fault comes.")
@click.option("--worker-kills", type=click.IntRange(min=0), default=12, show_default=True)
@click.option("--seconds", type=float, default=_SECONDS[1], show_default=True, help="The longest that a fault lasts.")
@click.option("--seed", type=int, help="Of the work and of the faults; without it another one each time.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder, to be made, for the journal and the logs.",
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document instead of the report.")
def outage(
    *,
    jobs: int,
    workers: int,
    slots: int,
    rounds: int,
    worker_kills: int,
    seconds: float,
    seed: int | None,
    keep: Path | None,
    is_json: bool,
) -> None:
    """
    Run jobs of every kind on a PostgreSQL of its own, behind a network that breaks, while workers are killed.

    The server is restarted, stopped at once and killed, its sessions are terminated, its connections used up,
    rows held by an idle transaction; the network hangs, both ways and each. In the end every acknowledged job
    must have ended as it was meant to, by an attempt whose handler returned; no attempt may have run twice, none
    at the same time as the next; no worker that lived may have been taken for dead; what was over may have run
    again only where its worker was killed before that could be stored; counters, unique keys and due times must
    agree, and no process be left.
    """
    # Here, as the servers come from the tests, which an installed package does not have.
    from servers.installation import installations
    from servers.postgres import PostgresServer
    from servers.proxy import Proxy

    seed = Random().randrange(1_000_000) if seed is None else seed
    with (
        folder_to_keep(keep) as folder,
        closing(PostgresServer(installations()[0], settings=_SERVER)) as server,
        closing(Proxy(server.url)) as proxy,
        Progress(console=Console(stderr=True), disable=is_json) as progress,
    ):
        url = f"{proxy.url}?timeout={_TIMEOUT}"
        fleet = Fleet(folder, processes=workers, slots=slots, url=url, **_SETTINGS)
        bar = progress.add_task("working", total=jobs)
        proof = _Proof(
            fleet,
            Site(server=server, proxy=proxy, url=server.url),
            Plan(jobs=jobs, worker_kills=worker_kills, supervisor_kills=0),
            rounds=rounds,
            seconds=(min(_SECONDS[0], seconds), seconds),
            seed=seed,
            on_progress=lambda done: progress.update(bar, completed=done),
        )
        try:
            report = asyncio.run(proof.run())
        finally:
            fleet.end()
    if is_json:
        click.echo(msgspec.json.encode(report))
    else:
        report.show()
    raise SystemExit(0 if report.is_proved else 1)


class _Proof:
    """One run, from the first process to the report. It looks at the store past the network that breaks."""

    def __init__(
        self,
        fleet: Fleet,
        site: Site,
        plan: Plan,
        *,
        rounds: int,
        seconds: tuple[float, float],
        seed: int,
        on_progress: Callable[[int], None],
    ) -> None:
        self._fleet = fleet
        self._site = site
        self._plan = plan
        self._seed = seed
        self._on_progress = on_progress
        self._manager = BackgroundTaskManager(f"{site.url}?timeout={_TIMEOUT}")
        self._raid = Raid(plan, fleet, ended=self._ended, random=Random(f"{seed} blows"))
        self._outages = Outages(
            site,
            rounds=rounds,
            seconds=seconds,
            jobs=plan.jobs,
            ended=self._ended,
            moved=self._moved,
            random=Random(f"{seed} faults"),
        )
        self._ended_before = {True: 0, False: 0}
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
            faults += unexpected(self._fleet.said())
            evidence = await self._evidence(manager)
            return sum_up(evidence, self._outages.faults, faults=faults, seed=self._seed, took=took)

    def _start(self) -> None:
        self._fleet.supervise()
        each, rest = divmod(self._plan.jobs, _PRODUCERS)
        for number in range(_PRODUCERS):
            self._fleet.produce(each + (number < rest), seed=f"{self._seed} {number}")

    async def _work_off(self) -> None:
        harm = [asyncio.create_task(each.run()) for each in (self._raid, self._outages)]
        try:
            while not (self._fleet.has_produced() and all(each.done() for each in harm) and await self._left() == 0):
                await self._moved()
                if time.monotonic() - self._moved_at > _PATIENCE:
                    raise StuckError(f"no job ended for {_PATIENCE:g} s, and {await self._left()} are left")
                await asyncio.sleep(_LOOK)
        finally:
            for each in harm:
                each.cancel()
            await asyncio.wait(harm)
        for each in harm:
            each.result()

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
        queues = (await self._manager.backend.statistics()).queues.values()
        return not any(count for queue in queues for state, count in queue.by_state.items() if not state.is_terminal)

    async def _until(self, otherwise: str, condition: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not await condition():
            if time.monotonic() > deadline:
                raise StuckError(f"{otherwise} after {_PATIENCE:g} s")
            await asyncio.sleep(_LOOK)

    async def _ended(self) -> int:
        """Return how many jobs have ended but for the recurring ones; as long as the store is away, how many had."""
        ended = await self._count(is_of_work=True)
        self._on_progress(ended)
        return ended

    async def _moved(self) -> int:
        """Return how many jobs have ended; as long as the store is away, how many had."""
        return await self._count(is_of_work=False)

    async def _count(self, *, is_of_work: bool) -> int:
        try:
            counts = await self._counts(is_of_work=is_of_work)
        except BackendUnavailableError:
            return self._ended_before[is_of_work]
        ended = sum(count for state, count in counts.items() if state.is_terminal)
        if ended > self._ended_before[is_of_work]:
            self._ended_before[is_of_work], self._moved_at = ended, time.monotonic()
        return ended

    async def _left(self) -> int:
        try:
            counts = await self._counts(is_of_work=True)
        except BackendUnavailableError:
            return 1
        return sum(count for state, count in counts.items() if not state.is_terminal)

    async def _counts(self, *, is_of_work: bool) -> Counter[State]:
        counts: Counter[State] = Counter()
        for name, queue in (await self._manager.backend.statistics()).queues.items():
            if name == WORK or not is_of_work:
                counts.update(queue.by_state)
        return counts

    async def _evidence(self, manager: BackgroundTaskManager) -> Evidence:
        backend = manager.backend
        jobs = [job async for job in all_jobs(backend)]
        entries = {entry.schedule.name: entry for entry in (await backend.schedules()).entries}
        runs = runs_of(jobs, read_journal(self._fleet.journal))
        with psycopg.connect(self._site.url) as session:
            [(unique_keys,)] = session.execute(_UNIQUE_KEYS).fetchall()
        return Evidence(
            jobs={job.id: job for job in jobs},
            runs=runs,
            acknowledged=read_acknowledgements(self._fleet.acknowledged),
            blows=self._raid.blows,
            counts=await backend.statistics(),
            schedule=entries.get(tick.name),
            unique_keys=unique_keys,
            integrity=(),
            boot=time.time() - time.monotonic(),
            slots=self._fleet.slots,
            excused=frozenset(unstored(runs, self._outages.faults, self._raid.blows)),
            interruptions=frozenset({BackendUnavailableError.__name__}),
        )


def unexpected(said: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what was logged as an error and is none that the faults, the kills or the tasks explain."""
    for fault in log_faults(said, is_dead_expected=False):
        if not any(each in fault for each in _EXPECTED):
            yield fault
