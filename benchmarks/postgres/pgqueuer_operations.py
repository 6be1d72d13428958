"""
PgQueuer as its guide to performance has it: asyncpg, one connection for the worker, its autovacuum settings.

Its queue and its log are durable, as they are by default.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries

from benchmarks.gate import wait_at_gate
from benchmarks.postgres.operations import note_start

BATCH = "BENCHMARK_PGQUEUER_BATCH"


class PgQueuerPeer:
    """PgQueuer."""

    async def install(self, url: str) -> None:
        """Make its tables, and set them up for vacuum as it recommends."""
        async with _connected(url) as queries:
            await queries.install()
            await queries.optimize_autovacuum()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[PgQueuerClient]:
        """Give a client on one connection."""
        async with _connected(url) as queries:
            yield PgQueuerClient(queries)

    async def work(self, url: str) -> None:
        """Run a worker."""
        connection = await asyncpg.connect(url)
        queuer = PgQueuer(AsyncpgDriver(connection))

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:
            json.loads(job.payload or b"")

        @queuer.entrypoint("timed")
        async def timed(job: Job) -> None:
            note_start(json.loads(job.payload or b"")[0])

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
        wait_at_gate()
        await queuer.run(batch_size=int(os.environ[BATCH]))


class PgQueuerClient:
    """The enqueuing client."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def enqueue(self, number: int) -> None:
        """Enqueue a job that does nothing."""
        await self._queries.enqueue("noop", _payload(number, "hello"))

    async def enqueue_many(self, numbers: Sequence[int]) -> None:
        """Enqueue such jobs by one statement."""
        count = len(numbers)
        await self._queries.enqueue(["noop"] * count, [_payload(number, "hello") for number in numbers], [0] * count)

    async def enqueue_timed(self, number: int) -> None:
        """Enqueue a job that notes when it started."""
        await self._queries.enqueue("timed", _payload(number))


def _payload(*arguments: object) -> bytes:
    return json.dumps(arguments).encode()


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Queries]:
    connection = await asyncpg.connect(url)
    try:
        yield Queries(AsyncpgDriver(connection))
    finally:
        await connection.close()


PEER = PgQueuerPeer()
