"""
The raw loop: what PostgreSQL itself allows for a bulk insert, and for a claim and a settle of each job.

No tasks, no retries, no events, no leases: jobs go in by COPY, one connection
claims 500 at a time, and another settles them meanwhile, a statement a batch.
It is the floor that the engine is measured against.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid

import psycopg
import uvloop

from benchmarks.figures import Figure, Sample
from benchmarks.plan import RAW_BATCH, Plan
from benchmarks.site import Phase, Site

_SCHEMA = (
    """
    CREATE TABLE raw (
        id        uuid        PRIMARY KEY,
        state     smallint    NOT NULL DEFAULT 1,
        queue     text        NOT NULL,
        task      text        NOT NULL,
        arguments text        NOT NULL,
        priority  smallint    NOT NULL DEFAULT 0,
        due       timestamptz NOT NULL DEFAULT now(),
        attempt   smallint    NOT NULL DEFAULT 0,
        token     uuid,
        inserted  timestamptz NOT NULL DEFAULT now(),
        attempted timestamptz,
        finished  timestamptz
    ) WITH (fillfactor = 80)
    """,
    "CREATE INDEX raw_ready ON raw (queue, priority, due, id) WHERE state = 1",
    "CREATE INDEX raw_finished ON raw (finished) WHERE state = 3",
)
_INSERT = "INSERT INTO raw (id, queue, task, arguments) VALUES (%b, %b, %b, %b)"
_COPY = "COPY raw (id, queue, task, arguments) FROM STDIN (FORMAT BINARY)"
_COPIED = ["uuid", "text", "text", "text"]
_COPIED_TOGETHER = 5_000
_CLAIM = """
WITH next AS MATERIALIZED (
    SELECT id FROM raw WHERE state = 1 AND queue = %b ORDER BY priority, due, id LIMIT %b FOR UPDATE SKIP LOCKED
)
UPDATE raw SET state = 2, attempt = attempt + 1, attempted = now(), token = %b
FROM next WHERE raw.id = next.id
RETURNING raw.id, task, arguments, attempt, due
"""
_SETTLE = "UPDATE raw SET state = 3, finished = now() WHERE id = ANY (%b) AND token = %b"
_AHEAD = 2
"""Batches that are claimed before they can be settled."""

_Row = tuple[uuid.UUID, str, str, str]
_Claimed = tuple[uuid.UUID, list[uuid.UUID]]


def measure(plan: Plan, site: Site) -> Sample:
    """Measure one round."""
    with site.store("raw") as url:
        uvloop.run(_make_table(url))
        enqueue = uvloop.run(_insert_one_by_one(url, plan.singles))
    with site.store("raw") as url:
        uvloop.run(_make_table(url))
        with site.wear(url, Phase.INSERT, jobs=plan.jobs) as inserting:
            enqueue_many = uvloop.run(_copy(url, plan.jobs))
        with site.wear(url, Phase.DRAIN, jobs=plan.jobs) as draining:
            drain, cpu = uvloop.run(_drain(url, plan.jobs))
    return {
        Figure.ENQUEUE: enqueue,
        Figure.ENQUEUE_SYNC: enqueue,
        Figure.ENQUEUE_MANY: enqueue_many,
        Figure.DRAIN: drain,
        Figure.DRAIN_TWO: drain,
        Figure.CPU: cpu,
        Figure.CPU_TWO: cpu,
        **inserting,
        **draining,
    }


async def _make_table(url: str) -> None:
    async with await _connect(url) as connection:
        for statement in _SCHEMA:
            await connection.execute(statement)


async def _insert_one_by_one(url: str, jobs: int) -> float:
    rows = _new_rows(jobs)
    async with await _connect(url) as connection:
        cursor = connection.cursor(binary=True)
        started = time.perf_counter()
        for row in rows:
            await cursor.execute(_INSERT, row, prepare=True)
        return jobs / (time.perf_counter() - started)


async def _copy(url: str, jobs: int) -> float:
    rows = _new_rows(jobs)
    async with await _connect(url) as connection, connection.cursor(binary=True) as cursor:
        started = time.perf_counter()
        for start in range(0, jobs, _COPIED_TOGETHER):
            async with cursor.copy(_COPY) as copy:
                copy.set_types(_COPIED)
                for row in rows[start : start + _COPIED_TOGETHER]:
                    await copy.write_row(row)
        rate = jobs / (time.perf_counter() - started)
        await connection.execute("ANALYZE raw")
        return rate


async def _drain(url: str, jobs: int) -> tuple[float, float]:
    async with await _connect(url) as claiming, await _connect(url) as settling:
        claimed: asyncio.Queue[_Claimed] = asyncio.Queue(_AHEAD)
        started, cpu = time.perf_counter(), time.process_time()
        _, settled = await asyncio.gather(_claim(claiming, claimed), _settle(settling, claimed))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    assert settled == jobs
    return jobs / seconds, cpu_seconds / jobs * 1e6


async def _claim(connection: psycopg.AsyncConnection, claimed: asyncio.Queue[_Claimed]) -> None:
    """Claim until nothing is left, of which an empty batch tells."""
    cursor = connection.cursor(binary=True)
    while True:
        token = uuid.uuid4()
        await cursor.execute(_CLAIM, ("default", RAW_BATCH, token), prepare=True)
        ids = [row[0] for row in await cursor.fetchall()]
        await claimed.put((token, ids))
        if not ids:
            return


async def _settle(connection: psycopg.AsyncConnection, claimed: asyncio.Queue[_Claimed]) -> int:
    cursor, settled = connection.cursor(binary=True), 0
    while True:
        token, ids = await claimed.get()
        if not ids:
            return settled
        await cursor.execute(_SETTLE, (ids, token), prepare=True)
        settled += cursor.rowcount


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


def _new_rows(count: int) -> list[_Row]:
    """Return rows whose ids ascend, as those of the engine do."""
    start = time.time_ns() // 1_000_000 << 80
    return [
        (
            uuid.UUID(int=start + (number << 48) + secrets.randbits(48)),
            "default",
            "benchmarks.noop",
            '[[42,"hello"],{}]',
        )
        for number in range(count)
    ]
