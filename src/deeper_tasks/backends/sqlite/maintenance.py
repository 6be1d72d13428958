"""Maintain: promote, rescue, expire, prune. Any number of workers may do it at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import NamedTuple, TypeVar

import msgspec

from deeper_tasks.backends.buckets import BUCKETS_KEPT
from deeper_tasks.backends.codes import CODES, STATES, Mark
from deeper_tasks.backends.protocol import MAX_BATCH, SILENT_NODES_KEPT, Promotion, Rescue, Retention
from deeper_tasks.backends.reading import stand_in
from deeper_tasks.backends.sqlite import counters, ends, unique_keys
from deeper_tasks.backends.sqlite.codec import BUCKET, duration, to_json
from deeper_tasks.backends.sqlite.ends import JobEnd, error_document
from deeper_tasks.backends.sqlite.index_ranges import counts_of, recounted, wrong_queues
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import MovedJob, is_spared_by_rescue, state_after_rescue, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import outlives_deletion

T = TypeVar("T")

_PENDING, _RUNNING, _FAILED = CODES[State.PENDING], CODES[State.RUNNING], CODES[State.FAILED]

SELECT_DUE = """
SELECT json_group_array(json_array(rowid, queue, state)) FROM (
    SELECT rowid, queue, state FROM deeper_job INDEXED BY deeper_job_due
    WHERE state IN (1, 5) AND scheduled_at <= :now
    ORDER BY scheduled_at, id
    LIMIT :limit
)
"""
PROMOTE = "UPDATE deeper_job SET state = 3 WHERE rowid IN (SELECT value FROM json_each(?))"
SELECT_NEXT_DUE = """
SELECT scheduled_at FROM deeper_job INDEXED BY deeper_job_due WHERE state IN (1, 5) ORDER BY scheduled_at, id LIMIT 1
"""
MARK_LOST = "UPDATE deeper_node SET is_lost = 1 WHERE id = :node AND (is_lost OR beat = :beat)"
SELECT_ABANDONED = """
SELECT json_group_array(json_array(
    rowid, id, task, queue, attempt, max_attempts, attempted_at IS NOT NULL, cancel_requested, unique_key
))
FROM (
    SELECT rowid, * FROM deeper_job INDEXED BY deeper_job_running WHERE state = 4 AND node = :node LIMIT :limit
)
"""
DELETE_NODE = "DELETE FROM deeper_node WHERE id = ?"
SELECT_EXPIRED = """
SELECT json_group_array(json_array(rowid, id, task, queue, state, attempt, unique_key)) FROM (
    SELECT rowid, * FROM deeper_job INDEXED BY deeper_job_expiring
    WHERE expires_at IS NOT NULL AND state IN (3, 5) AND expires_at <= :now
    ORDER BY expires_at
    LIMIT :limit
)
"""
SELECT_OLD = """
SELECT json_group_array(json_array(finished_at, json_array(rowid, id, queue, state, unique_key))) FROM (
    SELECT rowid, * FROM deeper_job INDEXED BY deeper_job_ended
    WHERE queue = :queue AND state = :state AND finished_at <= :before
    ORDER BY finished_at, id
    LIMIT :limit
)
"""
DELETE_JOBS = "DELETE FROM deeper_job WHERE rowid IN (SELECT value FROM json_each(?))"
DELETE_OLD_COUNTS = """
DELETE FROM deeper_counter WHERE bucket < :oldest AND (bucket > 0 OR count = 0)
"""
DELETE_COUNTS = "DELETE FROM deeper_counter WHERE bucket = 0 AND queue IN (SELECT value FROM json_each(?))"
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


class _Abandoned(NamedTuple):
    """A job of a dead node."""

    rowid: int
    id: JobId
    task: str
    queue: str
    attempt: int
    max_attempts: int
    has_started: bool
    cancel_requested: str | None
    unique_key: str | None


class _Expired(NamedTuple):
    """A job that was not started in time."""

    rowid: int
    id: JobId
    task: str
    queue: str
    state: int
    attempt: int
    unique_key: str | None


class OldJob(NamedTuple):
    """A job about to be deleted."""

    rowid: int
    id: JobId
    queue: str
    state: int
    unique_key: str | None


class Pruned(NamedTuple):
    """How many jobs a batch deleted, whether unique keys that have expired are left, and why a step failed first."""

    jobs: int
    has_more_keys: bool
    failure: Exception | None


_due = msgspec.json.Decoder(list[tuple[int, str, int]])
_abandoned = msgspec.json.Decoder(list[_Abandoned], strict=False)
_expired = msgspec.json.Decoder(list[_Expired])
_old = msgspec.json.Decoder(list[tuple[int, OldJob]])


def promote(connection: sqlite3.Connection, *, now: int) -> Promotion:
    """Make due jobs pending; see `Backend.promote`."""
    due = _due.decode(connection.execute(SELECT_DUE, {"now": now, "limit": MAX_BATCH}).fetchone()[0])
    if due:
        connection.execute(PROMOTE, (to_json([rowid for rowid, _, _ in due]),))
        counters.move(connection, ((queue, state, _PENDING) for _, queue, state in due), now=now)
    following = connection.execute(SELECT_NEXT_DUE).fetchone()
    return Promotion(
        count=len(due),
        queues=frozenset(queue for _, queue, _ in due),
        next_due_in=None if following is None else timedelta(microseconds=max(0, following[0] - now)),
    )


def rescue(connection: sqlite3.Connection, node: NodeId, *, beat: int, trusted: Collection[str], now: int) -> Rescue:
    """Take the jobs of a dead node; see `Backend.rescue`."""
    if connection.execute(MARK_LOST, {"node": node, "beat": beat}).rowcount == 0:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)
    jobs = _abandoned.decode(connection.execute(SELECT_ABANDONED, {"node": node, "limit": MAX_BATCH}).fetchone()[0])
    error = worker_lost(node)
    ended: list[JobEnd] = []
    moves: list[counters.Move] = []
    released: list[tuple[str, str]] = []
    rescued: list[MovedJob] = []
    for job in jobs:
        attempt, most, has_started = job.attempt, job.max_attempts, job.has_started
        is_spared = is_spared_by_rescue(attempt=attempt, max_attempts=most, has_started=has_started)
        is_cancel_requested = job.cancel_requested is not None
        state = state_after_rescue(
            attempt=attempt, max_attempts=most, has_started=has_started, is_cancel_requested=is_cancel_requested
        )
        document = None if is_spared else error_document(error, attempt=job.attempt, now=now)
        ended.append(
            JobEnd(
                rowid=job.rowid,
                state=CODES[state],
                attempts_taken_back=int(is_spared),
                finished_at=now if state.is_terminal else None,
                error=document,
                drops_token=True,
                mark=Mark.QUARANTINED if has_started and job.task not in trusted else None,
            )
        )
        moves.append((job.queue, _RUNNING, CODES[state]))
        rescued.append(
            MovedJob(
                id=job.id,
                state=state,
                task=job.task,
                queue=job.queue,
                attempt=attempt,
                error=None if is_spared else error,
                cancel_reason=job.cancel_requested,
            )
        )
        if job.unique_key is not None and state.is_terminal:
            released.append((job.unique_key, job.id))
    ends.write(connection, ended, now=now)
    counters.move(connection, moves, now=now)
    unique_keys.release(connection, released)
    is_finished = len(jobs) < MAX_BATCH
    if is_finished:
        connection.execute(DELETE_NODE, (node,))
    queues = frozenset(queue for queue, _, state in moves if state == _PENDING)
    return Rescue(jobs=tuple(rescued), queues=queues, is_finished=is_finished)


def expire(connection: sqlite3.Connection, *, now: int) -> list[MovedJob]:
    """Fail jobs that were not started in time; see `Backend.expire`."""
    jobs = _expired.decode(connection.execute(SELECT_EXPIRED, {"now": now, "limit": MAX_BATCH}).fetchone()[0])
    if not jobs:
        return []
    ended = [
        JobEnd(
            rowid=job.rowid,
            state=_FAILED,
            finished_at=now,
            error=error_document(EXPIRED, attempt=job.attempt, now=now),
        )
        for job in jobs
    ]
    ends.write(connection, ended, now=now)
    counters.move(connection, ((job.queue, job.state, _FAILED) for job in jobs), now=now)
    unique_keys.release(connection, [(job.unique_key, job.id) for job in jobs if job.unique_key is not None])
    return [
        MovedJob(id=job.id, state=State.FAILED, task=job.task, queue=job.queue, attempt=job.attempt, error=EXPIRED)
        for job in jobs
    ]


def prune(connection: sqlite3.Connection, retention: Retention, *, now: int) -> Pruned:
    """Delete ended jobs past their retention, and what else is of no use any more; see `Backend.prune`."""
    steps = _Steps(connection)
    steps.take(lambda: _mend_counters(connection))
    jobs = steps.take(lambda: _prune_jobs(connection, retention, now=now))
    keys = steps.take(lambda: unique_keys.prune(connection, now=now))
    steps.take(lambda: connection.execute(DELETE_OLD_COUNTS, {"oldest": now // BUCKET - BUCKETS_KEPT}))
    steps.take(lambda: connection.execute(DELETE_SILENT_NODES, {"before": now - duration(SILENT_NODES_KEPT)}))
    steps.take(lambda: _replace_missing_nodes(connection, now=now))
    return Pruned(jobs=jobs or 0, has_more_keys=keys == MAX_BATCH, failure=steps.failure)


class _Steps:
    """Steps in one transaction, each in a savepoint: one that fails undoes no other and stops none."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.failure: Exception | None = None
        """What the first step raised that failed."""

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
    delete_jobs(connection, jobs, now=now)
    return len(jobs)


def _replace_missing_nodes(connection: sqlite3.Connection, *, now: int) -> None:
    """Give the running jobs of nodes that are not there to stand-ins, which a rescue finds."""
    for (missing,) in connection.execute(SELECT_MISSING_NODES).fetchall():
        node = stand_in(missing)
        connection.execute(STAND_IN_FOR_NODE, {"id": node.id, "document": to_json(node), "now": now})
        # Under another id: the worker of the missing one may live, and has to learn that it is not registered.
        connection.execute(GIVE_JOBS, {"id": node.id, "node": missing})


def _mend_counters(connection: sqlite3.Connection) -> None:
    """Count anew the jobs of queues whose counters cannot be right: a hand has been at the tables."""
    wrong = wrong_queues(connection)
    if wrong:
        connection.execute(DELETE_COUNTS, (to_json(sorted(wrong)),))
        counts = recounted(connection, wrong)
        connection.executemany(counters.ADD, [(queue, state, 0, count) for (queue, state), count in counts.items()])


def _oldest(connection: sqlite3.Connection, retention: Retention, *, now: int) -> list[OldJob]:
    kept = {
        CODES[State.COMPLETED]: retention.completed,
        CODES[State.FAILED]: retention.failed,
        CODES[State.DISCARDED]: retention.failed,
        CODES[State.CANCELLED]: retention.failed,
    }
    oldest: list[tuple[int, OldJob]] = []
    for queue, state in counts_of(connection):
        period = kept.get(state)
        if period is None:
            continue
        before = now - duration(period)
        if len(oldest) == MAX_BATCH:
            # There are enough: of the queues and states that follow only what is older yet.
            before = min(before, oldest[-1][0])
        values = {"queue": queue, "state": state, "before": before, "limit": MAX_BATCH}
        oldest += _old.decode(connection.execute(SELECT_OLD, values).fetchone()[0])
        oldest = sorted(oldest, key=lambda entry: (entry[0], entry[1].id))[:MAX_BATCH]
    return [job for _, job in oldest]


def delete_jobs(connection: sqlite3.Connection, jobs: list[OldJob], *, now: int) -> None:
    """Delete jobs with what counts them and what they hold."""
    if jobs:
        connection.execute(DELETE_JOBS, (to_json([job.rowid for job in jobs]),))
        counters.move(connection, ((job.queue, job.state, None) for job in jobs), now=now)
        unfinished = [job for job in jobs if not outlives_deletion(STATES.get(job.state, State.BLOCKED))]
        unique_keys.free(connection, [(job.unique_key, job.id) for job in unfinished if job.unique_key is not None])
