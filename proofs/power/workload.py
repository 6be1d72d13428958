"""The workload: everything that callers, workers and maintainers do to a store, in a random order, partly at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from msgspec import Struct

from deeper_tasks.backends.protocol import JobFilter, Node, QueueSettings, Retention
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.database import Synchronous
from deeper_tasks.backends.sqlite.writer import Writer
from deeper_tasks.domain.cron import Recurrence
from deeper_tasks.domain.ids import ClaimToken, IdGenerator, JobId, NodeId, RequestId
from deeper_tasks.domain.job import ClaimedJob, ErrorReport, JobSpec, NewJob, Progress
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.settlement import End, MovedJob, Report, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import NodeLostError
from proofs.power.contents import digest
from proofs.power.recorder import Recorder
from proofs.power.trace import Committed, Promised, TakenBack, Trace

_DATABASE = "tasks.db"
_QUEUES = ("default", "emails", "media")
_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)


class Plan(Struct, frozen=True, kw_only=True):
    """One way to use a store: `stores` on one file, a checkpoint every `pages` of WAL, closed and opened `reopens`."""

    name: str
    rounds: int
    stores: int = 1
    pages: int | None = None
    reopens: bool = False
    synchronous: Synchronous = Synchronous.FULL


PLANS = (
    Plan(name="one store", rounds=60),
    Plan(name="many checkpoints", rounds=60, pages=8),
    Plan(name="two stores on one file", rounds=60, stores=2, pages=24),
    Plan(name="closed and opened again", rounds=60, pages=64, reopens=True),
    Plan(name="synchronous=normal", rounds=60, stores=2, pages=24, synchronous=Synchronous.NORMAL),
)


async def record(plan: Plan, folder: Path, *, seed: str) -> Trace:
    """Do the work of a plan in an empty folder; returns what happened there."""
    recorder = Recorder(folder)
    with recorder.recording(), _commits_noted(recorder):
        await _Workload(plan, folder / _DATABASE, recorder, Random(seed)).run()
    is_durable = plan.synchronous is Synchronous.FULL
    return Trace(name=plan.name, database=_DATABASE, is_durable=is_durable, events=recorder.events)


@contextmanager
def _commits_noted(recorder: Recorder) -> Iterator[None]:
    """
    Note each commit within its turn: before it is acknowledged, and before another store writes.

    A commit that changed nothing wrote nothing, and waited for no disk: it leaves a claim before it as it was.
    """
    transact = Writer._transact
    last = ""

    def transact_and_note(writer: Writer, connection: sqlite3.Connection, batch: Any) -> None:
        nonlocal last
        transact(writer, connection, batch)
        before, last = last, digest(connection)
        recorder.note(Committed(last, writer._synchronous is Synchronous.FULL and last != before))

    with mock.patch.object(Writer, "_transact", transact_and_note):
        yield


class _Workload:
    """The actions of one plan, and the answers that its callers had."""

    def __init__(self, plan: Plan, database: Path, recorder: Recorder, random: Random) -> None:
        self._plan = plan
        self._recorder = recorder
        self._random = random
        self._stores = [SQLiteBackend(database, synchronous=plan.synchronous) for _ in range(plan.stores)]
        self._ids = IdGenerator()
        self._names = count(1)
        self._known: dict[JobId, State | None] = {}
        self._nodes: list[NodeId] = []
        self._held: list[ClaimedJob] = []

    async def run(self) -> None:
        """Do all rounds."""
        await self._open()
        for number in range(self._plan.rounds):
            together = self._random.choices(self._at_once(), k=self._random.randint(1, 6))
            await asyncio.gather(*(action() for action in together))
            # A call that takes a promise back runs alone: of two at once the order would not be known.
            if self._random.random() < 0.4:
                await self._random.choice((self._retry, self._delete, self._prune))()
            if self._plan.reopens and number % 6 == 5:
                await self._close()
                await self._open()
        await self._close()

    def _at_once(self) -> Sequence[Callable[[], Awaitable[None]]]:
        often = (self._enqueue, self._enqueue, self._enqueue_many, self._work, self._work, self._settle_late)
        return (
            *often,
            *often,
            self._schedule,
            self._promote,
            self._expire,
            self._cancel,
            self._lose_a_node,
            self._set_queue,
        )

    async def _open(self) -> None:
        for store in self._stores:
            await store.open()
            if self._plan.pages is not None:
                await store._threads.write(partial(_checkpoint_every, pages=self._plan.pages))
            self._nodes.append(await self._join(store))

    async def _close(self) -> None:
        for store in self._stores:
            await store.close()

    @property
    def _store(self) -> SQLiteBackend:
        return self._random.choice(self._stores)

    # produce

    async def _enqueue(self) -> None:
        await self._insert([self._new_job()])

    async def _enqueue_many(self) -> None:
        await self._insert([self._new_job() for _ in range(self._random.randint(2, 40))])

    async def _insert(self, jobs: list[NewJob]) -> None:
        self._promise({answer.id: None for answer in await self._store.insert(jobs) if answer.is_new})

    def _new_job(self) -> NewJob:
        random = self._random
        number = next(self._names)
        spec = JobSpec(
            task="proofs.tasks.work",
            arguments=f'[[{number},"{"x" * random.choice((1, 1, 100, 5000))}"],{{}}]',
            queue=random.choice(_QUEUES),
            priority=random.randint(-1, 1),
            max_attempts=random.randint(1, 3),
            expires_in=random.choice((None, None, None, _HOUR)),
        )
        unique = random.choice(
            (None, None, Unique(key=f"key {random.randint(1, 20)}", period=random.choice((None, _HOUR, _SECOND / 100))))
        )
        return NewJob(
            request_id=self._new_id(), spec=spec, delay=random.choice((0, 0, 0.01, 600)) * _SECOND, unique=unique
        )

    def _new_id(self) -> RequestId:
        return self._ids.next(_now_ns())

    # consume

    async def _join(self, store: SQLiteBackend) -> NodeId:
        number = next(self._names)
        node = Node(
            id=NodeId(f"node-{number}"),
            name="node",
            host="host",
            scope="scope",
            pid=number,
            pid_started=str(number),
            queues=dict.fromkeys(_QUEUES, 10),
        )
        await store.register(node)
        return node.id

    async def _work(self) -> None:
        store, random = self._store, self._random
        jobs: list[ClaimedJob] = []
        # The node may be taken for dead at the same time.
        with suppress(NodeLostError):
            claim = await store.claim(
                random.choice(_QUEUES),
                limit=random.randint(1, 20),
                slots=random.randint(0, 20),
                node=random.choice(self._nodes),
                token=ClaimToken(f"token-{next(self._names)}"),
            )
            jobs += claim.jobs
        await store.report([self._news(job) for job in jobs if random.random() < 0.3])
        kept = [job for job in jobs if random.random() < 0.2]
        self._held += kept
        await self._settle([job for job in jobs if job not in kept])

    async def _settle_late(self) -> None:
        held, self._held = self._held, []
        await self._settle(held)

    async def _settle(self, jobs: Iterable[ClaimedJob]) -> None:
        self._promise_ends(await self._store.settle([self._settlement(job) for job in jobs]))

    def _news(self, job: ClaimedJob) -> Report:
        progress = Progress(fraction=0.5, message="half")
        return Report(id=job.id, token=job.token, has_started=True, progress=progress, lines=("a line",))

    def _settlement(self, job: ClaimedJob) -> Settlement:
        often = (End.COMPLETE,) * 5
        end = self._random.choice((*often, End.RETRY, End.SNOOZE, End.RELEASE, End.FAIL, End.DISCARD, End.CANCEL))
        error = ErrorReport(kind="ValueError", message="boom") if end in {End.RETRY, End.FAIL, End.DISCARD} else None
        delay = self._random.choice((0, 600)) * _SECOND
        return Settlement(id=job.id, token=job.token, end=end, delay=delay, error=error, result="[1]")

    # maintain

    async def _promote(self) -> None:
        await self._store.promote(now=datetime.now(UTC) + self._random.choice((0, 1)) * _HOUR)

    async def _expire(self) -> None:
        self._promise_ends(await self._store.expire(now=datetime.now(UTC) + 2 * _HOUR))

    async def _lose_a_node(self) -> None:
        store = self._store
        self._nodes.append(await self._join(store))
        lost = self._random.choice(self._nodes[:-1])
        for record in await store.nodes():
            if record.node.id == lost and lost in self._nodes:
                self._nodes.remove(lost)
                rescue = await store.rescue(lost, beat=record.beat)
                self._promise_ends(rescue.jobs)
                return

    async def _schedule(self) -> None:
        store = self._store
        spec = JobSpec(task="proofs.tasks.tick", arguments="[[],{}]", queue="default")
        name = f"entry {self._random.randint(1, 3)}"
        entry = await store.put_schedule(Schedule(name=name, recurrence=Recurrence(expression="* * * * *"), spec=spec))
        then = entry.next_run + _SECOND
        firing = plan_firing(entry, now=then)
        fired = None if firing is None else await store.fire(firing, now=then)
        if fired is not None:
            self._promise(dict.fromkeys(fired.jobs))

    # control

    async def _cancel(self) -> None:
        target = JobFilter(ids=self._some(lambda state: state is None))
        self._promise_ends(await self._store.cancel(target, reason="no longer wanted"))

    async def _set_queue(self) -> None:
        # Seldom for long: a queue that is paused gives no work.
        paused_at = self._random.choice((None, None, None, datetime.now(UTC)))
        await self._store.put_queue(QueueSettings(name=self._random.choice(_QUEUES), paused_at=paused_at))

    async def _retry(self) -> None:
        dead = self._some(lambda state: state in {State.FAILED, State.DISCARDED, State.CANCELLED})
        self._take_back(dead)
        self._promise({job.id: None for job in await self._store.retry(JobFilter(ids=dead))})

    async def _delete(self) -> None:
        chosen = self._some(lambda _: True)
        self._take_back(chosen)
        await self._store.delete(JobFilter(ids=chosen))

    async def _prune(self) -> None:
        self._take_back(tuple(job for job, state in self._known.items() if state is not None))
        nothing_kept = Retention(completed=timedelta(0), failed=timedelta(0))
        await self._store.prune(self._random.choice((nothing_kept, Retention(completed=timedelta(0), failed=None))))

    # promises

    def _some(self, is_chosen: Callable[[State | None], bool]) -> tuple[JobId, ...]:
        chosen = [job for job, state in self._known.items() if is_chosen(state)]
        return tuple(self._random.sample(chosen, min(len(chosen), self._random.randint(1, 5))))

    def _promise(self, jobs: dict[JobId, State | None]) -> None:
        self._known |= jobs
        self._recorder.note(Promised(jobs))

    def _promise_ends(self, jobs: Iterable[Settled | MovedJob]) -> None:
        self._promise({job.id: job.state if job.state.is_terminal else None for job in jobs})

    def _take_back(self, jobs: tuple[JobId, ...]) -> None:
        for job in jobs:
            del self._known[job]
        self._recorder.note(TakenBack(jobs))


def _checkpoint_every(connection: sqlite3.Connection, *, pages: int) -> None:
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")


def _now_ns() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)
