"""
Oban, which needs a later Python than this engine does and may lie in an environment of its own.

Its queue starts paused and is resumed at the gate. All else is its default.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from oban import Job, Oban, worker  # type: ignore[import-not-found]
from oban.schema import install  # type: ignore[import-not-found]

from benchmarks.gate import wait_at_gate
from benchmarks.postgres.operations import note_start

LIMIT = "BENCHMARK_OBAN_LIMIT"


@worker()
class Noop:
    """Does nothing."""

    async def process(self, job: Job) -> None:
        """Do nothing."""


@worker()
class Timed:
    """Notes when it started."""

    async def process(self, job: Job) -> None:
        """Note it."""
        note_start(job.args["number"])


class ObanPeer:
    """Oban."""

    async def install(self, url: str) -> None:
        """Make its tables."""
        async with _pool(url) as pool:
            await install(pool)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[ObanClient]:
        """Give a client."""
        async with _pool(url) as pool:
            yield ObanClient(Oban(pool=pool))

    async def work(self, url: str) -> None:
        """Run a worker."""
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        queue = {"limit": int(os.environ[LIMIT]), "paused": True}
        async with _pool(url) as pool, Oban(pool=pool, queues={"default": queue}) as oban:
            wait_at_gate()
            await oban.resume_queue("default")
            await stopping.wait()


class ObanClient:
    """The enqueuing client."""

    def __init__(self, oban: Oban) -> None:
        self._oban = oban

    async def enqueue(self, number: int) -> None:
        """Enqueue a job that does nothing."""
        await self._oban.enqueue(Noop.new({"number": number, "name": "hello"}))

    async def enqueue_many(self, numbers: Sequence[int]) -> None:
        """Enqueue such jobs in one transaction."""
        await self._oban.enqueue_many(Noop.new({"number": number, "name": "hello"}) for number in numbers)

    async def enqueue_timed(self, number: int) -> None:
        """Enqueue a job that notes when it started."""
        await self._oban.enqueue(Timed.new({"number": number}))


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[object]:
    pool = await Oban.create_pool(url)
    try:
        yield pool
    finally:
        await pool.close()


PEER = ObanPeer()
