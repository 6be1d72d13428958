"""The aged file: a store as it looks after a month, made in bulk."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from deeper_tasks.backends.sqlite import SQLiteBackend

DAYS = 30
QUEUES = ("emails", "reports", "imports", "thumbnails", "webhooks")
_CHUNK = 50_000
_DAY = 86_400_000_000

_SETTINGS = ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000")
_FILL = f"""
INSERT INTO deeper_job (
    id, state, task, arguments, queue, priority, attempt, max_attempts, original_max_attempts,
    inserted_at, scheduled_at, attempted_at, finished_at, options, errors, result
)
WITH RECURSIVE number (i) AS (SELECT :start UNION ALL SELECT i + 1 FROM number WHERE i + 1 < :stop),
born AS (
    SELECT i, :since + i * :gap AS at, (i * 2654435761) % 1000 AS dice FROM number
),
kind AS (
    SELECT *, CASE WHEN dice < 7 THEN 8 WHEN dice < 10 THEN 7 WHEN dice < 12 THEN 9 ELSE 6 END AS state,
        iif(dice % 10 = 3, 15000000, 0) AS delay
    FROM born
)
SELECT
    printf('%08x-%04x-7%03x-8000-%012x', (at / 1000) >> 16, (at / 1000) & 65535, i & 4095, i),
    state,
    printf('shop.%s.task_%d', CASE dice % 3 WHEN 0 THEN 'mails' WHEN 1 THEN 'images' ELSE 'stock' END, dice % 20),
    printf('[[%d,"customer-%d@example.org"],{{"language":"en"}}]', i, i % 100000),
    CASE WHEN dice % 10 < 6 THEN '{QUEUES[0]}' WHEN dice % 10 < 8 THEN '{QUEUES[1]}' WHEN dice % 10 < 9
        THEN '{QUEUES[2]}' WHEN dice % 100 < 98 THEN '{QUEUES[3]}' ELSE '{QUEUES[4]}' END,
    0,
    iif(state = 8, 5, 1),
    5,
    5,
    at,
    at + delay,
    at + delay + 2000,
    at + delay + 2000 + dice * 1000,
    iif(dice % 50 = 0, '{{"tags":["nightly"]}}', NULL),
    iif(state IN (7, 8), json_array(json_object(
        'attempt', 1, 'at', '2026-01-01T00:00:00Z', 'kind', 'ConnectionError',
        'message', 'the other side did not answer', 'traceback', printf('%.*c', 600, '.')
    )), NULL),
    iif(state = 6, printf('{{"sent":true,"number":%d}}', i), NULL)
FROM kind
"""
_FILL_SCHEDULED = f"""
INSERT INTO deeper_job (
    id, state, task, arguments, queue, priority, max_attempts, original_max_attempts, inserted_at, scheduled_at
)
WITH RECURSIVE number (i) AS (SELECT :start UNION ALL SELECT i + 1 FROM number WHERE i + 1 < :stop),
born AS (SELECT i, :since + i * :gap AS at FROM number)
SELECT
    printf('%08x-%04x-7%03x-8001-%012x', (at / 1000) >> 16, (at / 1000) & 65535, i & 4095, i), 1, 'shop.mails.task_1',
    printf('[[%d,"customer-%d@example.org"],{{"language":"en"}}]', i, i % 100000), '{QUEUES[0]}', 0, 5, 5,
    at, at + {(DAYS + 1) * _DAY}
FROM born
"""
_COUNT = "INSERT INTO deeper_counter SELECT queue, state, 0, count(*) FROM deeper_job GROUP BY queue, state"


def make_aged(
    url: str, jobs: int, *, scheduled: int = 0, on_progress: Callable[[int], object] = lambda _: None
) -> None:
    """
    Make a store with so many ended jobs, evenly over the last 30 days; 1 % are dead letters.

    Jobs that are scheduled are due evenly over the next 30 days, none of them within a day.
    """
    path = Path(url.removeprefix("sqlite:///"))
    asyncio.run(_make_empty(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for setting in _SETTINGS:
            connection.execute(setting)
        _fill(connection, _FILL, jobs, on_progress=on_progress)
        _fill(connection, _FILL_SCHEDULED, scheduled, on_progress=lambda done: on_progress(jobs + done))
        connection.execute(_COUNT)


def _fill(connection: sqlite3.Connection, statement: str, total: int, *, on_progress: Callable[[int], object]) -> None:
    since = time.time_ns() // 1000 - DAYS * _DAY
    for start in range(0, total, _CHUNK):
        stop = min(start + _CHUNK, total)
        connection.execute(statement, {"start": start, "stop": stop, "since": since, "gap": DAYS * _DAY // total})
        on_progress(stop)


async def _make_empty(path: Path) -> None:
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.close()
