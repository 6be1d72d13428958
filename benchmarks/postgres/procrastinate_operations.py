"""Procrastinate: its psycopg connector, one asynchronous worker that runs several jobs at once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

from benchmarks.gate import wait_at_gate
from benchmarks.postgres.operations import note_start

CONCURRENCY = "BENCHMARK_PROCRASTINATE_CONCURRENCY"

app = App(connector=PsycopgConnector())


@app.task(name="noop")
async def noop(number: int, name: str) -> None:
    """Do nothing."""


@app.task(name="timed")
async def timed(number: int) -> None:
    """Note when it started."""
    note_start(number)


class ProcrastinatePeer:
    """Procrastinate."""

    async def install(self, url: str) -> None:
        """Make its tables."""
        async with _opened(url, connections=1) as opened:
            await opened.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[ProcrastinateClient]:
        """Give a client on one connection."""
        async with _opened(url, connections=1):
            yield ProcrastinateClient()

    async def work(self, url: str) -> None:
        """Run a worker, which has a connection for each of the jobs that it runs at once, and those it needs itself."""
        concurrency = int(os.environ[CONCURRENCY])
        async with _opened(url, connections=concurrency + 3) as opened:
            wait_at_gate()
            await opened.run_worker_async(concurrency=concurrency)


class ProcrastinateClient:
    """The enqueuing client."""

    async def enqueue(self, number: int) -> None:
        """Enqueue a job that does nothing."""
        await noop.defer_async(number=number, name="hello")

    async def enqueue_many(self, numbers: Sequence[int]) -> None:
        """Enqueue such jobs by one statement."""
        await noop.batch_defer_async(*({"number": number, "name": "hello"} for number in numbers))

    async def enqueue_timed(self, number: int) -> None:
        """Enqueue a job that notes when it started."""
        await timed.defer_async(number=number)


@asynccontextmanager
async def _opened(url: str, *, connections: int) -> AsyncIterator[App]:
    connector = PsycopgConnector(conninfo=url, min_size=connections, max_size=connections)
    with app.replace_connector(connector) as replaced:
        async with replaced.open_async():
            yield replaced


PEER = ProcrastinatePeer()
