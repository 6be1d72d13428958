"""
The operations of a peer: what another library is asked to do, each time in a process of its own.

`python -m benchmarks.postgres PEER install` makes its tables; `single`, `bulk`
and `timed` enqueue so many jobs, and `work` runs a worker. The environment
names the database, and what came of it is printed as JSON. This needs nothing but uvloop, so that a peer may live in
another Python than this engine does.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import uvloop

from benchmarks.gaps import gaps

URL = "BENCHMARK_URL"
"""The environment variable that names the database: its URL may hold a password, and all see a command line."""

STARTS = "BENCHMARK_STARTS"
"""The environment variable that names the file in which timed jobs note when they started."""

_BULK = 1_000
"""Jobs in one call, as in this engine's benchmark."""


class Client(Protocol):
    """The enqueuing client. Jobs have a number and a name as their arguments, or, timed ones, only a number."""

    async def enqueue(self, number: int) -> None:
        """Enqueue a job that does nothing."""
        ...

    async def enqueue_many(self, numbers: Sequence[int]) -> None:
        """Enqueue jobs that do nothing, by the one call that the library has for it."""
        ...

    async def enqueue_timed(self, number: int) -> None:
        """Enqueue a job that notes when it started."""
        ...


class Peer(Protocol):
    """Another library."""

    async def install(self, url: str) -> None:
        """Make its tables."""
        ...

    def client(self, url: str) -> AbstractAsyncContextManager[Client]:
        """Give an open client for the time of the block."""
        ...

    async def work(self, url: str) -> None:
        """Run a worker until it is stopped by a signal; call `wait_at_gate` just before it begins."""
        ...


def note_start(number: int) -> None:
    """Write down that a timed job starts now."""
    line = f"{number} {time.time_ns()}\n".encode()
    file = os.open(os.environ[STARTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)


def run(peer: Peer, operation: str, *counts: str) -> None:
    """Do an operation."""
    url = os.environ[URL]
    if operation == "install":
        uvloop.run(peer.install(url))
    elif operation == "work":
        uvloop.run(peer.work(url))
    else:
        print(json.dumps(uvloop.run(_enqueue(peer, operation, url, int(*counts)))))


async def _enqueue(peer: Peer, operation: str, url: str, count: int) -> float | list[int]:
    """Return the jobs a second, or when each call was made, in nanoseconds of the machine's clock."""
    async with peer.client(url) as client:
        if operation == "timed":
            return await _enqueue_timed(client, count)
        started = time.perf_counter()
        if operation == "single":
            for number in range(count):
                await client.enqueue(number)
        else:
            for start in range(0, count, _BULK):
                await client.enqueue_many(range(start, min(start + _BULK, count)))
        return count / (time.perf_counter() - started)


async def _enqueue_timed(client: Client, count: int) -> list[int]:
    called = []
    for number, gap in enumerate(gaps(count)):
        await asyncio.sleep(gap)
        called.append(time.time_ns())
        await client.enqueue_timed(number)
    return called
