"""
An aged store beside a young one: the same work on both in turn, in one run.

A drain is that of `engine`, in a queue that the stores do not have yet.
The lines below it go straight to the backend, in one process. Lists are first
pages of 50; each figure is the median of its repetitions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from benchmarks.aged_file import QUEUES
from benchmarks.engine import check, enqueue_many, started_workers, until_registered
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.protocol import MAX_BATCH, Backend, JobFilter, JobQuery, Node, Retention, SortKey
from deeper_tasks.domain.ids import ClaimToken, IdGenerator, NodeId
from deeper_tasks.domain.job import JobSpec, NewJob
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import DEAD_LETTER, State
from deeper_tasks.manager.stores import make_backend

Figures = dict[str, float]
"""The measurements of one round on one store, by what it is; rates are jobs a second, all else milliseconds."""

RATES = frozenset({"drain", "insert", "claim and settle"})

_LOOK = 0.01
_LISTS = {
    "all": JobFilter(),
    "completed": JobFilter(states=frozenset({State.COMPLETED})),
    "dead letters": JobFilter(states=DEAD_LETTER),
    "cancelled": JobFilter(states=frozenset({State.CANCELLED})),
    "pending": JobFilter(states=frozenset({State.PENDING})),
    "a queue": JobFilter(queue=QUEUES[0]),
    "a queue's dead letters": JobFilter(queue=QUEUES[1], states=DEAD_LETTER),
    "a task": JobFilter(task="shop.mails.task_3"),
}
_LONG_ENOUGH = 3.0
"""Seconds after which a figure is repeated no more."""
_LOOPED = MAX_BATCH * 10


async def measure(url: str, *, folder: Path, jobs: int, repetitions: int) -> Figures:
    """Measure one round on one store; workers run in the folder."""
    figures = {"drain": await _drain(url, folder, jobs)}
    backend = make_backend(_patient(url))
    await backend.open()
    try:
        figures |= await _loop(backend)
        figures |= await _look(backend, repetitions)
        figures |= await _maintain(backend)
    finally:
        await backend.close()
    return figures


def _patient(url: str) -> str:
    """Return the URL with a timeout that no list of a large store reaches."""
    return f"{url}?timeout=600" if url.startswith("postgresql:") else url


async def _drain(url: str, folder: Path, jobs: int) -> float:
    # The aged jobs are to stay in the store while it is measured.
    kept = {"DEEPER_TASKS_RETENTION_DAYS_COMPLETED": "60", "DEEPER_TASKS_RETENTION_DAYS_FAILED": "60"}
    async with BackgroundTaskManager(url) as manager:
        before = (await manager.get_statistics()).queues.get("default")
        wanted = jobs + (0 if before is None else before.completed)
        await enqueue_many(manager, jobs)
        with started_workers(1, folder, url, **kept) as workers:
            await until_registered(manager, workers)
            started = time.perf_counter()
            await manager.queues.resume("default")
            while (await manager.get_statistics()).queues["default"].completed < wanted:
                check(workers)
                await asyncio.sleep(_LOOK)
            return jobs / (time.perf_counter() - started)


async def _loop(backend: Backend) -> Figures:
    ids = IdGenerator()
    node = NodeId(f"bench-{time.time_ns()}")
    await backend.register(Node(id=node, name="bench", host="", scope="", pid=1, pid_started="", queues={"loop": 1}))
    batches = [[_new_job(ids, "loop") for _ in range(MAX_BATCH)] for _ in range(_LOOPED // MAX_BATCH)]
    started = time.perf_counter()
    for batch in batches:
        await backend.insert(batch)
    inserted = time.perf_counter()
    token = 0
    while True:
        token += 1
        claimed = ClaimToken(f"{node}-{token}")
        claim = await backend.claim("loop", limit=MAX_BATCH, slots=MAX_BATCH, node=node, token=claimed)
        if not claim.jobs:
            break
        await backend.settle([Settlement(id=job.id, token=job.token, end=End.COMPLETE) for job in claim.jobs])
    ended = time.perf_counter()
    await backend.deregister(node)
    return {"insert": _LOOPED / (inserted - started), "claim and settle": _LOOPED / (ended - inserted)}


async def _look(backend: Backend, repetitions: int) -> Figures:
    figures = {"statistics": await _timed(backend.statistics, repetitions)}
    some = (await backend.find(JobQuery(limit=1))).jobs[0].id
    figures["get"] = await _timed(lambda: backend.get(some), repetitions)
    for sort_by in SortKey:
        for name, condition in _LISTS.items():
            query = JobQuery(filter=condition, sort_by=sort_by)
            page = await backend.find(query)
            figures[f"list {name}, by {sort_by}"] = await _timed(lambda query=query: backend.find(query), repetitions)
            if page.next is not None and name in {"all", "dead letters"}:
                after = JobQuery(filter=condition, sort_by=sort_by, after=page.next)
                figures[f"list {name}, by {sort_by}, after a cursor"] = await _timed(
                    lambda query=after: backend.find(query), repetitions
                )
    far = JobQuery(filter=JobFilter(), offset=10_000)
    figures["list all, page 200"] = await _timed(lambda: backend.find(far), repetitions)
    return figures


async def _maintain(backend: Backend) -> Figures:
    ids, now = IdGenerator(), datetime.now(UTC)
    await backend.insert([_new_job(ids, "later", delay=timedelta(seconds=1)) for _ in range(MAX_BATCH)])
    started = time.perf_counter()
    promoted = await backend.promote(now=now + timedelta(minutes=1))
    promoting = time.perf_counter() - started
    await backend.delete(JobFilter(queue="later"))
    started = time.perf_counter()
    pruned = await backend.prune(Retention(completed=timedelta(0)), now=now)
    pruning = time.perf_counter() - started
    assert promoted.count == pruned == MAX_BATCH
    return {"promote a batch": promoting * 1e3, "prune a batch": pruning * 1e3}


async def _timed(call: Callable[[], Awaitable[object]], repetitions: int) -> float:
    """Return the median in milliseconds; what takes long is repeated less often, but once at least."""
    times: list[float] = []
    while len(times) < repetitions and sum(times) < _LONG_ENOUGH:
        started = time.perf_counter()
        await call()
        times.append(time.perf_counter() - started)
    return median(times) * 1e3


def _new_job(ids: IdGenerator, queue: str, *, delay: timedelta = timedelta(0)) -> NewJob:
    spec = JobSpec(task="benchmarks.noop", arguments='[[42,"hello"],{}]', queue=queue, priority=0, max_attempts=5)
    return NewJob(request_id=ids.next(time.time_ns()), spec=spec, delay=delay)
