"""Prune: delete jobs past their retention, and other rows without a use. Any number of workers may do it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.protocol import MAX_BATCH, SILENT_NODES_KEPT, Retention
from deeper_tasks.backends.reading import stand_in
from deeper_tasks.backends.sqlite import counters, transitions, unique_keys
from deeper_tasks.backends.sqlite.codec import duration, to_json
from deeper_tasks.backends.sqlite.index_ranges import counts_of
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State

T = TypeVar("T")

SELECT_OLD = """
SELECT json_group_array(json_array(finished_at, json_array(rowid, id, queue, state, unique_key))) FROM (
    SELECT rowid, * FROM deeper_job INDEXED BY deeper_job_ended
    WHERE queue = :queue AND state = :state AND finished_at <= :before
    ORDER BY finished_at, id
    LIMIT :limit
)
"""
DELETE_SILENT_NODES = """
DELETE FROM deeper_node
WHERE beat_at < :before AND NOT EXISTS (
    SELECT 1 FROM deeper_job INDEXED BY deeper_job_running WHERE state = 4 AND node = deeper_node.id
)
"""

SELECT_MISSING_NODES = """
SELECT DISTINCT node FROM deeper_job INDEXED BY deeper_job_running
WHERE state = 4 AND node IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deeper_node WHERE id = deeper_job.node)
"""
STAND_IN_FOR_NODE = """
INSERT INTO deeper_node (id, document, registered_at, beat_at) VALUES (:id, :document, :now, :now)
ON CONFLICT (id) DO NOTHING
"""
GIVE_JOBS = "UPDATE deeper_job INDEXED BY deeper_job_running SET node = :id WHERE state = 4 AND node = :node"


class _OldJob(NamedTuple):
    """A job past its retention."""

    rowid: int
    id: JobId
    queue: str
    state: int
    unique_key: str | None


class Pruned(NamedTuple):
    """How many jobs a batch deleted, whether expired unique keys may be left, and the first error of a step."""

    jobs: int
    has_more_keys: bool
    failure: Exception | None


_old_jobs = msgspec.json.Decoder(list[tuple[int, _OldJob]])


def prune(connection: sqlite3.Connection, retention: Retention, *, now: int) -> Pruned:
    """Delete ended jobs past their retention, and other rows without a use; see `Backend.prune`."""
    steps = _Steps(connection)
    steps.take(lambda: counters.mend(connection))
    jobs = steps.take(lambda: _prune_jobs(connection, retention, now=now))
    has_more_keys = steps.take(lambda: prune_keys(connection, now=now))
    steps.take(lambda: counters.prune(connection, now=now))
    steps.take(lambda: connection.execute(DELETE_SILENT_NODES, {"before": now - duration(SILENT_NODES_KEPT)}))
    steps.take(lambda: _replace_missing_nodes(connection, now=now))
    return Pruned(jobs=jobs or 0, has_more_keys=bool(has_more_keys), failure=steps.failure)


def prune_keys(connection: sqlite3.Connection, *, now: int) -> bool:
    """Delete a batch of unique keys that have expired; returns whether there may be more."""
    return unique_keys.prune(connection, now=now) == MAX_BATCH


class _Steps:
    """Steps in one transaction, each in a savepoint: a step that fails undoes no other and stops none."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.failure: Exception | None = None
        """The error of the first step that failed."""

    def take(self, step: Callable[[], T]) -> T | None:
        """Take a step; returns its answer, or None where it failed."""
        answer: T | None = None
        self._connection.execute("SAVEPOINT step")
        try:
            answer = step()
        except Exception as error:
            if not self._connection.in_transaction:
                # SQLite has rolled all of it back: the disk is full, for example.
                raise
            self._connection.execute("ROLLBACK TO step")
            self.failure = self.failure or error
        self._connection.execute("RELEASE step")
        return answer


def _prune_jobs(connection: sqlite3.Connection, retention: Retention, *, now: int) -> int:
    jobs = _oldest(connection, retention, now=now)
    transitions.delete(connection, jobs, now=now)
    return len(jobs)


def _replace_missing_nodes(connection: sqlite3.Connection, *, now: int) -> None:
    """Give the running jobs of nodes that are missing to stand-ins, which a rescue finds."""
    for (missing,) in connection.execute(SELECT_MISSING_NODES).fetchall():
        node = stand_in(missing)
        connection.execute(STAND_IN_FOR_NODE, {"id": node.id, "document": to_json(node), "now": now})
        # Under another id: the worker of the missing node may live, and must learn that it is not registered.
        connection.execute(GIVE_JOBS, {"id": node.id, "node": missing})


def _oldest(connection: sqlite3.Connection, retention: Retention, *, now: int) -> list[_OldJob]:
    kept = {
        CODES[State.COMPLETED]: retention.completed,
        CODES[State.FAILED]: retention.failed,
        CODES[State.DISCARDED]: retention.failed,
        CODES[State.CANCELLED]: retention.failed,
    }
    oldest: list[tuple[int, _OldJob]] = []
    for queue, state in counts_of(connection):
        period = kept.get(state)
        if period is None:
            continue
        before = now - duration(period)
        if len(oldest) == MAX_BATCH:
            # The batch is full: of the other queues and states only older jobs count.
            before = min(before, oldest[-1][0])
        values = {"queue": queue, "state": state, "before": before, "limit": MAX_BATCH}
        oldest += _old_jobs.decode(connection.execute(SELECT_OLD, values).fetchone()[0])
        oldest = sorted(oldest, key=lambda entry: (entry[0], entry[1].id))[:MAX_BATCH]
    return [job for _, job in oldest]
