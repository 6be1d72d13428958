"""
Huey on SQLite, its consumer started by `huey_consumer` with its default settings: one thread, polling.

It has no pause, so each consumer is held at its start by a hook until a file
appears. A drain is measured from the making of that file until the queue's
table, looked at every 10 ms, is empty: Huey takes a job off before it runs it,
so a job that is under way when a consumer is killed is gone.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import gate, huey_app
from benchmarks.figures import Figure, Sample
from benchmarks.gaps import gaps
from benchmarks.gate import Gate
from benchmarks.latency import latency_figures
from benchmarks.plan import Plan
from benchmarks.processes import Child, children

_LOOK = 0.01
_SETTLING = 0.5
_CONSUMER = ["-m", "huey.bin.huey_consumer", "benchmarks.huey_app.app", "--quiet"]


def measure(plan: Plan, round_number: int, *, is_fsync_off: bool) -> Sample:
    """Measure one round."""
    name = "huey-off" if is_fsync_off else "huey"
    one, two = plan.store(f"{name}-one", round_number), plan.store(f"{name}-two", round_number)
    huey, noop, start_time = huey_app.make_huey(str(one), is_fsync_off=is_fsync_off)
    started = time.perf_counter()
    for number in range(plan.jobs):
        noop(number, "hello")
    enqueue = plan.jobs / (time.perf_counter() - started)
    with _consumers(1, plan.folder, one, is_fsync_off=is_fsync_off) as (consumers, closed):
        drain, cpu = _drain(consumers, closed, one, plan.jobs)
        memory = consumers[0].peak_bytes() / 1e6
        time.sleep(_SETTLING)
        called, results = [], []
        for gap in gaps(plan.latencies):
            time.sleep(gap)
            called.append(time.time_ns())
            results.append(start_time())
        latency = latency_figures(called, [result.get(blocking=True, timeout=30) for result in results])
    huey.storage.close()
    huey, noop, _ = huey_app.make_huey(str(two), is_fsync_off=is_fsync_off)
    for number in range(plan.jobs):
        noop(number, "hello")
    with _consumers(2, plan.folder, two, is_fsync_off=is_fsync_off) as (consumers, closed):
        drain_two, cpu_two = _drain(consumers, closed, two, plan.jobs)
    huey.storage.close()
    return {
        Figure.ENQUEUE: enqueue,
        Figure.ENQUEUE_SYNC: enqueue,
        Figure.DRAIN: drain,
        Figure.DRAIN_TWO: drain_two,
        Figure.CPU: cpu,
        Figure.CPU_TWO: cpu_two,
        Figure.MEMORY: memory,
        **latency,
    }


def _drain(consumers: list[Child], closed: Gate, path: Path, jobs: int) -> tuple[float, float]:
    while closed.waiting() < len(consumers):
        _check(consumers)
        time.sleep(_LOOK)
    time.sleep(_SETTLING)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        cpu = sum(consumer.cpu_seconds() for consumer in consumers)
        started = time.perf_counter()
        closed.open()
        while connection.execute("SELECT EXISTS (SELECT 1 FROM task)").fetchone()[0]:
            _check(consumers)
            time.sleep(_LOOK)
        seconds = time.perf_counter() - started
    return jobs / seconds, (sum(consumer.cpu_seconds() for consumer in consumers) - cpu) / jobs * 1e6


def _check(consumers: list[Child]) -> None:
    for consumer in consumers:
        consumer.check()


@contextmanager
def _consumers(count: int, folder: Path, path: Path, *, is_fsync_off: bool) -> Iterator[tuple[list[Child], Gate]]:
    place = path.with_suffix(".gate")
    environment = {
        huey_app.FILE: str(path),
        huey_app.FSYNC: "off" if is_fsync_off else "default",
        gate.VARIABLE: str(place),
    }
    with children(count, _CONSUMER, folder=folder, environment=environment) as consumers:
        yield consumers, Gate(place)
