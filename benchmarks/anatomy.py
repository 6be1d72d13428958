"""
The anatomy of a job: where the microseconds of CPU of one job that does nothing go.

Three measurements, each of processor time and not of time that passed, so that
a busy machine changes them little:

- the whole: a worker in this process drains a file; the loop's thread and all
  others are clocked apart;
- the loop's share: the same worker on a store that answers at once, and a timer
  that looks each half millisecond of processor time at what is being done;
- the store's share: claims and settles of 500 on the writer's connection,
  statement by statement.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.engine_tasks import noop
from benchmarks.instant_store import InstantStore
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.protocol import Node
from deeper_tasks.backends.sqlite import claimable_jobs, claiming, consuming, counters, insert, schema, transitions
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.domain.ids import ClaimToken, IdGenerator, NodeId
from deeper_tasks.domain.job import JobSpec, NewJob
from deeper_tasks.domain.settlement import End, Settlement

Share = dict[str, float]
"""Microseconds of CPU a job, by what they are spent on."""

_BULK, _BATCH = 5_000, 500
_LOOK = 0.0005
_NODE = NodeId("the benchmark's")

_PLACES: tuple[tuple[str, str, str], ...] = (
    ("tasks/arguments.py", "", "arguments: decode, check against the signature"),
    ("tasks/annotations.py", "", "arguments: decode, check against the signature"),
    ("benchmarks/engine_tasks.py", "", "the task itself"),
    ("executors/coroutine.py", "", "the executor: context, time taken, outcome"),
    ("worker/call.py", "", "the executor: context, time taken, outcome"),
    ("tasks/context.py", "", "the executor: context, time taken, outcome"),
    ("worker/consumer.py", "_fill", "a slot: the attempt and its asyncio task"),
    ("worker/attempt.py", "", "a slot: the attempt and its asyncio task"),
    ("worker/runner.py", "", "the pipeline: task, timeout, steps"),
    ("worker/deadlines.py", "", "the pipeline: task, timeout, steps"),
    ("worker/consumer.py", "", "the pipeline: task, timeout, steps"),
    ("worker/pace.py", "", "the pipeline: task, timeout, steps"),
    ("worker/settler.py", "", "settlements: gather, announce"),
    ("worker/news.py", "", "settlements: gather, announce"),
    ("worker/worker.py", "", "settlements: gather, announce"),
    ("integrations/", "", "settlements: gather, announce"),
    ("asyncio/", "", "asyncio: its turns and tasks"),
)
_STATEMENTS = {
    claiming.SELECT_CLAIMANT: "claim: may this node",
    claimable_jobs.SELECT_CLAIMABLE: "claim: find the jobs, as one JSON document",
    transitions.CLAIM: "claim: mark them running",
    consuming.SELECT_SETTLED: "settle: find them by id and token",
    transitions.COMPLETE_WITHOUT_RESULT: "settle: mark them completed",
    counters.ADD: "counters",
    "COMMIT": "commits",
}


def anatomy(folder: Path, jobs: int) -> tuple[Share, Share, Share]:
    """Return the whole, the loop's share and the store's share."""
    logging.getLogger("deeper_tasks").setLevel(logging.WARNING)
    return (
        asyncio.run(_whole(folder / "whole.db", jobs)),
        asyncio.run(_loop_share(jobs)),
        _store_share(folder / "store.db", jobs),
    )


async def _whole(path: Path, jobs: int) -> Share:
    async with BackgroundTaskManager(f"sqlite:///{path}") as manager:
        for start in range(0, jobs, _BULK):
            await manager.enqueue_many([noop.call(number, "hello") for number in range(start, start + _BULK)])

        async def done() -> bool:
            return (await manager.get_statistics()).queues["default"].completed >= jobs

        started, loop_started = time.process_time(), time.thread_time()
        await _work(manager, done)
        whole, loop = time.process_time() - started, time.thread_time() - loop_started
    return {"the event loop": _micros(loop, jobs), "the store's threads": _micros(whole - loop, jobs)}


async def _loop_share(jobs: int) -> Share:
    store = InstantStore(jobs)
    looks: Counter[str] = Counter()

    async def done() -> bool:
        return store.settled >= jobs

    manager = BackgroundTaskManager("memory://", backend=store)
    started = time.thread_time()
    with _looking(looks):
        await _work(manager, done)
    await manager.close()
    used = _micros(time.thread_time() - started - store.used, jobs)
    del looks[""]
    return {place: used * count / looks.total() for place, count in looks.most_common()}


async def _work(manager: BackgroundTaskManager, done: Any) -> None:
    manager.include("benchmarks.engine_tasks")
    started: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(manager.run_worker(handle_signals=False, on_start=started.set_result))
    worker = await started
    while not await done():  # noqa: ASYNC110 - the store is asked, since it sets no event
        await asyncio.sleep(0.02)
    worker.stop()
    await running


@contextmanager
def _looking(looks: Counter[str]) -> Iterator[None]:
    """Count where this thread is, as long as the context lasts."""

    def look(_: int, frame: FrameType | None) -> None:
        looks[_place(frame)] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, _LOOK, _LOOK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _place(frame: FrameType | None) -> str:
    """The subject of the innermost frame that has one; empty for the stand-in of the store."""
    while frame is not None:
        code = frame.f_code
        if "instant_store" in code.co_filename:
            return ""
        for file, function, place in _PLACES:
            if file in code.co_filename and function in code.co_name:
                return place
        frame = frame.f_back
    return "asyncio: its turns and tasks"


class _Clocked:
    """A connection that notes the CPU time of each statement."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.used: Counter[str] = Counter()
        self._connection = connection

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        started = time.process_time()
        cursor = self._connection.execute(statement, *values)
        self._note(statement, started)
        return cursor

    def executemany(self, statement: str, *values: Any) -> sqlite3.Cursor:
        started = time.process_time()
        cursor = self._connection.executemany(statement, *values)
        self._note(statement, started)
        return cursor

    def _note(self, statement: str, started: float) -> None:
        place = _STATEMENTS.get(statement)
        if place is not None:
            self.used[place] += time.process_time() - started  # type: ignore[assignment]


def _store_share(path: Path, jobs: int) -> Share:
    database = Database(path=path).connect_to_write()
    connection: Any = _Clocked(database)
    _fill(connection, jobs)
    connection.used.clear()
    done, used = 0, 0.0
    while done < jobs:
        claimed, seconds = _claim_and_settle(connection)
        done, used = done + claimed, used + seconds
    database.close()
    parts = {place: _micros(seconds, jobs) for place, seconds in connection.used.items()}
    rest = _micros(used, jobs) - sum(parts.values())
    return {**dict(sorted(parts.items())), "values: decode, encode, decide": rest}


def _fill(connection: Any, jobs: int) -> None:
    ids, spec = IdGenerator(), JobSpec(task=noop.name, arguments='[[42,"hello"],{}]', queue="default")
    connection.execute("BEGIN")
    schema.make_ready(connection, create=True)
    node = Node(id=_NODE, name="node", host="host", scope="scope", pid=1, pid_started="1", queues={"default": 10})
    consuming.register(connection, node, tasks=None, now=_now())
    for start in range(0, jobs, _BULK):
        new = [NewJob(request_id=ids.next(time.time_ns()), spec=spec) for _ in range(start, start + _BULK)]
        insert.insert(connection, new, now=_now())
    connection.execute("COMMIT")


def _claim_and_settle(connection: Any) -> tuple[int, float]:
    """Return how many jobs were claimed and settled, and the CPU seconds that took."""
    token, ran_for = ClaimToken(secrets.token_hex(8)), timedelta(microseconds=10)
    started = time.process_time()
    connection.execute("BEGIN IMMEDIATE")
    claim = claiming.claim(connection, "default", limit=_BATCH, slots=10, node=_NODE, token=token, now=_now())
    connection.execute("COMMIT")
    used = time.process_time() - started
    ends = [Settlement(id=job.id, token=job.token, end=End.COMPLETE, ran_for=ran_for) for job in claim.jobs]
    started = time.process_time()
    connection.execute("BEGIN IMMEDIATE")
    consuming.settle(connection, ends, now=_now())
    connection.execute("COMMIT")
    return len(ends), used + time.process_time() - started


def _micros(seconds: float, jobs: int) -> float:
    return seconds / jobs * 1e6


def _now() -> int:
    return time.time_ns() // 1000
