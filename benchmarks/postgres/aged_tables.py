"""The aged tables: a store in PostgreSQL as it looks after a month, made in bulk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.aged_file import DAYS, QUEUES
from deeper_tasks.manager.stores import make_backend

_CHUNK = 100_000

_SETTINGS = (
    "SET search_path TO deeper",
    "SET synchronous_commit TO off",
    "SET maintenance_work_mem TO '1GB'",
    "SET max_parallel_maintenance_workers TO 2",
)
_QUEUE = f"""
CASE WHEN dice % 10 < 6 THEN '{QUEUES[0]}' WHEN dice % 10 < 8 THEN '{QUEUES[1]}' WHEN dice % 10 < 9 THEN '{QUEUES[2]}'
    WHEN dice % 100 < 98 THEN '{QUEUES[3]}' ELSE '{QUEUES[4]}' END
"""
_BORN = f"""
number AS (
    SELECT i, (i * 2654435761) %% 1000 AS dice, now() + (i - %(total)s) * (interval '{DAYS} days' / %(total)s) AS at
    FROM generate_series(%(start)s::bigint, %(stop)s::bigint - 1) AS i
), born AS (
    SELECT *, (extract(epoch FROM at) * 1000)::bigint AS ms FROM number
), named AS (
    SELECT
        *,
        (
            lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(i & 4095), 3, '0')
            || %(variant)s || lpad(to_hex(i), 12, '0')
        )::uuid AS id,
        format(
            'shop.%%s.task_%%s', CASE dice %% 3 WHEN 0 THEN 'mails' WHEN 1 THEN 'images' ELSE 'stock' END, dice %% 20
        ) AS task,
        format('[[%%s,"customer-%%s@example.org"],{{"language":"en"}}]', i, i %% 100000) AS arguments,
        {_QUEUE.replace("%", "%%")} AS queue
    FROM born
)
"""
_FILL_ENDED = f"""
INSERT INTO job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, attempted_at, finished_at, options, errors, result
)
WITH {_BORN}, kind AS (
    SELECT
        *,
        CASE WHEN dice < 7 THEN 8 WHEN dice < 10 THEN 7 WHEN dice < 12 THEN 9 ELSE 6 END AS state,
        at + CASE WHEN dice %% 10 = 3 THEN interval '15 seconds' ELSE interval '0' END AS due
    FROM named
)
SELECT
    id, state, task, arguments, queue, 0, CASE state WHEN 8 THEN 5 ELSE 1 END, 5, 5,
    at, due, due + interval '2 milliseconds', due + interval '2 milliseconds' + dice * interval '1 millisecond',
    CASE WHEN dice %% 50 = 0 THEN '{{"tags":["nightly"]}}' END,
    CASE WHEN state IN (7, 8) THEN ARRAY[
        '[1,"2026-01-01T00:00:00Z",{{"kind":"ConnectionError","message":"the other side did not answer","traceback":"'
        || repeat('.', 600) || '"}}]'
    ] END,
    CASE WHEN state = 6 THEN format('{{"sent":true,"number":%%s}}', i) END
FROM kind
"""
_FILL_SCHEDULED = f"""
INSERT INTO job (
    id, state, task, arguments, queue, priority, max_attempts, original_max_attempts, inserted_at, scheduled_at
)
WITH {_BORN}
SELECT id, 1, task, arguments, queue, 0, 5, 5, at, at + interval '{DAYS + 1} days' FROM named
"""
_COUNT = (
    "INSERT INTO counter (queue, state, bucket, count) SELECT queue, state, 0, count(*) FROM job GROUP BY queue, state"
)
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = 'deeper' AND tablename = 'job' AND indexname <> 'job_pkey'
"""


def make_aged(
    url: str, jobs: int, *, scheduled: int = 0, on_progress: Callable[[int], object] = lambda _: None
) -> None:
    """
    Make a store with so many ended jobs, evenly over the last 30 days; 1 % are dead letters.

    Jobs that are scheduled are due evenly over the next 30 days, none of them within a day.
    """
    asyncio.run(_make_empty(url))
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in _SETTINGS:
            connection.execute(setting)
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
        _fill(connection, _FILL_ENDED, jobs, variant="8000", on_progress=on_progress)
        _fill(connection, _FILL_SCHEDULED, scheduled, variant="8001", on_progress=lambda done: on_progress(jobs + done))
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute(_COUNT)
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        connection.execute("CHECKPOINT")


def _fill(
    connection: psycopg.Connection[Any],
    statement: str,
    total: int,
    *,
    variant: str,
    on_progress: Callable[[int], object],
) -> None:
    for start in range(0, total, _CHUNK):
        stop = min(start + _CHUNK, total)
        connection.execute(statement, {"start": start, "stop": stop, "total": total, "variant": variant})
        on_progress(stop)


async def _make_empty(url: str) -> None:
    backend = make_backend(url)
    await backend.open()
    await backend.close()
