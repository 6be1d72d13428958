"""
The measurement of a peer on PostgreSQL, which does its operations in child processes.

It has no pause, so each worker is held at its start, connected, until a gate
opens. A drain is measured from then until none of its jobs is left to do,
which its tables are asked every 10 ms.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct

from benchmarks import gate
from benchmarks.figures import Figure, Sample
from benchmarks.gate import Gate
from benchmarks.latency import latency_figures
from benchmarks.plan import Plan
from benchmarks.postgres.operations import STARTS, URL
from benchmarks.processes import Child, children, environment_of_child
from benchmarks.site import Phase, Site

_COMMAND = ["-m", "benchmarks.postgres"]
_LOOK = 0.01
_SETTLING = 0.5
_PATIENCE = 30.0


class Peer(Struct, frozen=True, kw_only=True):
    """
    Another library; its operations are done in its own Python and with its own environment.

    `unfinished` is a query that tells whether any job is left to do, from an index. `share` is how many of the plan's
    jobs it gets: a slow one would take the whole time of a run.
    """

    name: str
    title: str
    setting: str
    unfinished: str
    environment: dict[str, str]
    python: str = sys.executable
    share: float = 1


def measure(peer: Peer, plan: Plan, site: Site) -> Sample:
    """Measure one round."""
    jobs = max(1, round(plan.jobs * peer.share))
    sample: Sample = {}
    with _installed(peer, site) as url:
        sample[Figure.ENQUEUE] = _operation(peer, "single", url, plan.singles)
    with _installed(peer, site) as url:
        with site.wear(url, Phase.INSERT, jobs=jobs) as inserting:
            sample[Figure.ENQUEUE_MANY] = _operation(peer, "bulk", url, jobs)
        with site.wear(url, Phase.DRAIN, jobs=jobs) as draining, _workers(peer, plan, url, 1) as (workers, closed):
            sample[Figure.DRAIN], sample[Figure.CPU] = _drain(peer, workers, closed, url, jobs)
            sample[Figure.MEMORY] = workers[0].peak_bytes() / 1e6
        sample |= inserting | draining | _latency(peer, plan, url)
    with _installed(peer, site) as url:
        _operation(peer, "bulk", url, jobs)
        with _workers(peer, plan, url, 2) as (workers, closed):
            sample[Figure.DRAIN_TWO], sample[Figure.CPU_TWO] = _drain(peer, workers, closed, url, jobs)
    return sample


@contextmanager
def _installed(peer: Peer, site: Site) -> Iterator[str]:
    with site.store(peer.name) as url:
        _operation(peer, "install", url)
        yield url


def _operation(peer: Peer, operation: str, url: str, *counts: int) -> Any:
    """Return what the operation printed, if anything."""
    done = subprocess.run(
        [peer.python, *_COMMAND, peer.name, operation, *map(str, counts)],
        env=environment_of_child({**peer.environment, URL: url}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout) if done.stdout else None


@contextmanager
def _workers(peer: Peer, plan: Plan, url: str, count: int) -> Iterator[tuple[list[Child], Gate]]:
    """Run workers within the block, which wait at a gate."""
    place = plan.folder / f"{peer.name}-{time.time_ns()}.gate"
    environment = {**peer.environment, URL: url, gate.VARIABLE: str(place), STARTS: str(_starts(plan, peer))}
    arguments = [*_COMMAND, peer.name, "work"]
    with children(count, arguments, folder=plan.folder, environment=environment, python=peer.python) as workers:
        closed = Gate(place)
        while closed.waiting() < count:
            _check(workers)
            time.sleep(_LOOK)
        time.sleep(_SETTLING)
        yield workers, closed


def _drain(peer: Peer, workers: list[Child], closed: Gate, url: str, jobs: int) -> tuple[float, float]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        cpu = sum(worker.cpu_seconds() for worker in workers)
        started = time.perf_counter()
        closed.open()
        while _is_unfinished(connection, peer):
            _check(workers)
            time.sleep(_LOOK)
        seconds = time.perf_counter() - started
    return jobs / seconds, (sum(worker.cpu_seconds() for worker in workers) - cpu) / jobs * 1e6


def _latency(peer: Peer, plan: Plan, url: str) -> Sample:
    starts = _starts(plan, peer)
    starts.unlink(missing_ok=True)
    with _workers(peer, plan, url, 1) as (workers, closed):
        closed.open()
        time.sleep(_SETTLING)
        called = _operation(peer, "timed", url, plan.latencies)
        deadline = time.monotonic() + _PATIENCE
        while len(lines := starts.read_text().splitlines()) < plan.latencies:
            _check(workers)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{peer.name} did not start all jobs within {_PATIENCE:g} s")
            time.sleep(_LOOK)
    started = dict(_two_numbers(line) for line in lines)
    return latency_figures(called, [started[number] for number in range(plan.latencies)])


def _two_numbers(line: str) -> tuple[int, int]:
    number, at = line.split()
    return int(number), int(at)


def _starts(plan: Plan, peer: Peer) -> Path:
    return plan.folder / f"{peer.name}.starts"


def _is_unfinished(connection: psycopg.Connection, peer: Peer) -> bool:
    row = connection.execute(peer.unfinished.encode()).fetchone()
    return row is not None and bool(row[0])


def _check(workers: Sequence[Child]) -> None:
    for worker in workers:
        worker.check()
