"""
The raw loop: what SQLite itself allows for a bulk insert, and for a claim and a settle of each job.

No tasks, no retries, no events, no leases: one connection, prepared rows and
two statements. It is the floor that the engine is measured against.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.figures import Figure, Sample
from benchmarks.plan import RAW_BATCH, Plan

_SETTINGS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")
_SCHEMA = (
    """
    CREATE TABLE raw (
        id        INTEGER PRIMARY KEY,
        state     INTEGER NOT NULL DEFAULT 1,
        queue     TEXT    NOT NULL,
        task      TEXT    NOT NULL,
        arguments BLOB    NOT NULL,
        priority  INTEGER NOT NULL DEFAULT 0,
        due       INTEGER NOT NULL,
        attempt   INTEGER NOT NULL DEFAULT 0,
        token     BLOB,
        inserted  INTEGER,
        attempted INTEGER,
        finished  INTEGER
    ) STRICT
    """,
    "CREATE INDEX raw_ready ON raw (queue, priority, due, id) WHERE state = 1",
)
_INSERT = "INSERT INTO raw (queue, task, arguments, due, inserted) VALUES (?, ?, ?, ?, ?)"
_CLAIM = """
UPDATE raw SET state = 2, attempt = attempt + 1, attempted = ?, token = ?
WHERE id IN (SELECT id FROM raw WHERE state = 1 AND queue = ? ORDER BY priority, due, id LIMIT ?)
RETURNING id, task, arguments, attempt, due
"""
_SETTLE = "UPDATE raw SET state = 3, finished = ? WHERE id = ? AND token = ?"

_Row = tuple[str, str, bytes, int, int]


def measure(plan: Plan, round_number: int) -> Sample:
    """Measure one round."""
    with closing(_connect(plan.store("raw", round_number))) as connection:
        enqueue = _timed_insert(connection, plan.singles, together=1)
        connection.execute("DELETE FROM raw")
        enqueue_many = _timed_insert(connection, plan.jobs, together=RAW_BATCH)
        started, cpu = time.perf_counter(), time.process_time()
        while _claim_and_settle(connection):
            pass
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return {
        Figure.ENQUEUE: enqueue,
        Figure.ENQUEUE_SYNC: enqueue,
        Figure.ENQUEUE_MANY: enqueue_many,
        Figure.DRAIN: plan.jobs / seconds,
        Figure.DRAIN_TWO: plan.jobs / seconds,
        Figure.CPU: cpu_seconds / plan.jobs * 1e6,
        Figure.CPU_TWO: cpu_seconds / plan.jobs * 1e6,
    }


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in (*_SETTINGS, *_SCHEMA):
        connection.execute(statement)
    return connection


def _timed_insert(connection: sqlite3.Connection, jobs: int, *, together: int) -> float:
    now = _now()
    row: _Row = ("default", "benchmarks.noop", b'[[42,"hello"],{}]', now, now)
    started = time.perf_counter()
    for start in range(0, jobs, together):
        _transact(connection, _INSERT, [row] * min(together, jobs - start))
    return jobs / (time.perf_counter() - started)


def _claim_and_settle(connection: sqlite3.Connection) -> int:
    now, token = _now(), secrets.token_bytes(16)
    connection.execute("BEGIN IMMEDIATE")
    claimed = connection.execute(_CLAIM, (now, token, "default", RAW_BATCH)).fetchall()
    connection.execute("COMMIT")
    _transact(connection, _SETTLE, [(now, row[0], token) for row in claimed])
    return len(claimed)


def _transact(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(statement, rows)
    connection.execute("COMMIT")


def _now() -> int:
    return time.time_ns() // 1000
