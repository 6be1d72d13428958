"""
This engine, everything on: fencing, events, timeouts and retries, durable commits, logs at WARNING.

A drain is measured with the queue full and paused and the workers started and
registered: from the call of `queues.resume` until the statistics, looked at
every 10 ms, show every job completed. CPU time is what the workers used
between these two; memory is the peak of a worker that has just drained.
Latency is that of a worker started anew on the drained store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engine_tasks import noop, start_time
from benchmarks.figures import Figure, Sample
from benchmarks.gaps import gaps
from benchmarks.latency import latency_figures
from benchmarks.plan import BULK, Plan
from benchmarks.processes import Child, children
from benchmarks.site import Phase, Site
from deeper_tasks import BackgroundTaskManager, TaskCall

_WORKER = ["-m", "deeper_tasks.cli", "worker", "benchmarks.engine_worker:manager", "--log-level", "warning"]
_LOOK = 0.01
_SETTLING = 0.5
"""Seconds that a registered worker gets to become idle."""


def measure(plan: Plan, site: Site) -> Sample:
    """Measure one round."""
    sample: Sample = {}
    with site.store("deeper-tasks-single") as url:
        sample |= asyncio.run(_enqueue(url, plan.singles))
    with site.store("deeper-tasks-blocking") as url:
        sample |= _enqueue_blocking(url, plan.singles)
    with site.store("deeper-tasks-one") as url:
        with site.wear(url, Phase.INSERT, jobs=plan.jobs) as inserting:
            sample |= asyncio.run(_fill(url, plan.jobs))
        with site.wear(url, Phase.DRAIN, jobs=plan.jobs) as draining:
            sample |= asyncio.run(_drain_with_one(plan, url))
        sample |= asyncio.run(_wait_for_starts(plan, url))
    with site.store("deeper-tasks-two") as url:
        asyncio.run(_fill(url, plan.jobs))
        sample |= asyncio.run(_drain_with_two(plan, url))
    return sample | inserting | draining


async def _enqueue(url: str, count: int) -> Sample:
    async with BackgroundTaskManager(url) as manager:
        started = time.perf_counter()
        for number in range(count):
            await manager.enqueue_task(noop, args=[number, "hello"])
        return {Figure.ENQUEUE: count / (time.perf_counter() - started)}


def _enqueue_blocking(url: str, count: int) -> Sample:
    with BackgroundTaskManager(url).sync as manager:
        started = time.perf_counter()
        for number in range(count):
            manager.enqueue_task(noop, args=[number, "hello"])
        return {Figure.ENQUEUE_SYNC: count / (time.perf_counter() - started)}


async def _fill(url: str, jobs: int) -> Sample:
    async with BackgroundTaskManager(url) as manager:
        return {Figure.ENQUEUE_MANY: await enqueue_many(manager, jobs)}


async def _drain_with_one(plan: Plan, url: str) -> Sample:
    async with BackgroundTaskManager(url) as manager:
        with started_workers(1, plan.folder, url) as workers:
            rate, cpu = await _drain(manager, workers, plan.jobs)
            memory = workers[0].peak_bytes() / 1e6
    return {Figure.DRAIN: rate, Figure.CPU: cpu, Figure.MEMORY: memory}


async def _drain_with_two(plan: Plan, url: str) -> Sample:
    async with BackgroundTaskManager(url) as manager:
        with started_workers(2, plan.folder, url) as workers:
            rate, cpu = await _drain(manager, workers, plan.jobs)
    return {Figure.DRAIN_TWO: rate, Figure.CPU_TWO: cpu}


async def _wait_for_starts(plan: Plan, url: str) -> Sample:
    async with BackgroundTaskManager(url) as manager:
        with started_workers(1, plan.folder, url) as workers:
            await until_registered(manager, workers)
            called, ids = [], []
            for gap in gaps(plan.latencies):
                await asyncio.sleep(gap)
                called.append(time.time_ns())
                ids.append(await manager.enqueue_task(start_time))
            return latency_figures(called, [await manager.result(task_id, timeout=30) for task_id in ids])


async def enqueue_many(manager: BackgroundTaskManager, count: int) -> float:
    """Enqueue in bulk and pause the queue; returns the jobs a second."""
    started = time.perf_counter()
    for start in range(0, count, BULK):
        calls: list[TaskCall] = [noop.call(number, "hello") for number in range(start, min(start + BULK, count))]
        await manager.enqueue_many(calls)
    rate = count / (time.perf_counter() - started)
    await manager.queues.pause("default")
    return rate


async def _drain(manager: BackgroundTaskManager, workers: list[Child], jobs: int) -> tuple[float, float]:
    await until_registered(manager, workers)
    cpu = sum(worker.cpu_seconds() for worker in workers)
    started = time.perf_counter()
    await manager.queues.resume("default")
    while (await manager.get_statistics()).queues["default"].completed < jobs:
        check(workers)
        await asyncio.sleep(_LOOK)
    seconds = time.perf_counter() - started
    return jobs / seconds, (sum(worker.cpu_seconds() for worker in workers) - cpu) / jobs * 1e6


async def until_registered(manager: BackgroundTaskManager, workers: list[Child]) -> None:
    """Wait until the workers are there and idle."""
    while (await manager.get_statistics()).workers_summary.workers < len(workers):
        check(workers)
        await asyncio.sleep(_LOOK)
    await asyncio.sleep(_SETTLING)


def check(workers: list[Child]) -> None:
    """Raise RuntimeError if a worker has ended."""
    for worker in workers:
        worker.check()


@contextmanager
def started_workers(count: int, folder: Path, url: str, **settings: str) -> Iterator[list[Child]]:
    """Run worker processes on a store within the block; settings are given by the environment."""
    environment = {"DEEPER_TASKS_URL": url, **settings}
    with children(count, _WORKER, folder=folder, environment=environment) as workers:
        yield workers
