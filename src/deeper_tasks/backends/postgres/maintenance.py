"""Maintain: promote, rescue, expire, prune. Any number of workers may do it at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple

from deeper_tasks.backends.buckets import BUCKETS_KEPT
from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.postgres import counters, unique_keys
from deeper_tasks.backends.postgres.codec import (
    array,
    duration,
    optional_array,
    optional_text_array,
    text_array,
    to_json,
)
from deeper_tasks.backends.postgres.consuming import DEREGISTER, LOCK_NODE
from deeper_tasks.backends.postgres.database import Database, Transaction
from deeper_tasks.backends.protocol import MAX_BATCH, SILENT_NODES_KEPT, Promotion, Rescue, Retention
from deeper_tasks.backends.reading import stand_in
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED, MAX_KEPT_ERRORS
from deeper_tasks.domain.settlement import MovedJob, is_spared_by_rescue, state_after_rescue, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import outlives_deletion

_PENDING, _RUNNING, _FAILED = CODES[State.PENDING], CODES[State.RUNNING], CODES[State.FAILED]

PROMOTE = "SELECT queue, count, next_due_in FROM {schema}.promote(%(limit)s::text::integer, %(now)s::timestamptz)"
FOLD = "SELECT {schema}.fold()"
MARK_LOST = """
UPDATE node SET is_lost = true
WHERE id = (
    SELECT id FROM node WHERE id = %(node)s AND (is_lost OR beat = %(beat)s) FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING number
"""
"""Not the node whose row somebody's transaction holds: its beats wait behind that, and would come too late."""
SELECT_ABANDONED = """
SELECT id::text, task, queue, attempt, max_attempts, attempted_at IS NOT NULL, cancel_requested, unique_key
FROM job
WHERE state = 4 AND node = %(number)s
ORDER BY token
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""
SELECT_EXPIRED = """
SELECT id::text, task, queue, state, attempt, unique_key
FROM job
WHERE expires_at IS NOT NULL AND state IN (3, 5) AND expires_at <= coalesce(%(now)s::timestamptz, now())
ORDER BY expires_at
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""
WRITE_ENDS = f"""
UPDATE job SET
    state = ended.state,
    attempt = greatest(job.attempt, ended.taken_back) - ended.taken_back,
    finished_at = CASE WHEN ended.state >= 6 THEN coalesce(%(now)s::timestamptz, now()) END,
    errors = CASE
        WHEN ended.error IS NULL THEN job.errors
        ELSE newest_of(
            listed(job.errors) || error_entry(job.attempt, coalesce(%(now)s::timestamptz, now()), ended.error),
            {MAX_KEPT_ERRORS}
        )
    END,
    token = CASE WHEN job.state <> 4 THEN job.token END,
    is_quarantined = coalesce(ended.is_quarantined, job.is_quarantined)
FROM unnest(
    %(ids)s::uuid[], %(states)s::smallint[], %(taken_back)s::integer[], %(errors)s::text[], %(quarantined)s::boolean[]
) AS ended (id, state, taken_back, error, is_quarantined)
WHERE job.id = ended.id
"""
SELECT_OLD = """
SELECT old.id::text
FROM unnest(%(queues)s::text[], %(states)s::smallint[], %(periods)s::bigint[]) AS line (queue, state, period)
CROSS JOIN LATERAL (
    SELECT job.id, job.finished_at
    FROM job
    WHERE job.finished_at IS NOT NULL AND job.queue = line.queue AND job.state = line.state
        AND job.finished_at <= coalesce(%(now)s::timestamptz, now()) - line.period * interval '1 microsecond'
    ORDER BY job.finished_at, job.id
    LIMIT %(limit)s
) AS old
ORDER BY old.finished_at, old.id
LIMIT %(limit)s
"""
LOCK_OLD = """
SELECT id::text FROM job
WHERE id = ANY (%(ids)s::uuid[]) AND state + 0 = ANY (%(states)s::smallint[])
FOR UPDATE SKIP LOCKED
"""
DELETE_JOBS = """
DELETE FROM job USING unnest(%(ids)s::uuid[]) AS old (id)
WHERE job.id = old.id AND job.state + 0 = ANY (%(states)s::smallint[])
RETURNING job.id::text, job.queue, job.state, job.unique_key
"""
DELETE_OLD_COUNTS = """
DELETE FROM counter
WHERE bucket < bucket_of(coalesce(%(now)s::timestamptz, now())) - %(kept)s AND (bucket > 0 OR count = 0)
"""
DELETE_SILENT_NODES = """
DELETE FROM node
WHERE beat_at < coalesce(%(now)s::timestamptz, now()) - %(silence)s * interval '1 microsecond'
    AND NOT EXISTS (SELECT FROM job WHERE job.state = 4 AND job.node = node.number)
"""

SELECT_MISSING_NODES = """
WITH RECURSIVE holder (number) AS (
    (SELECT job.node FROM job WHERE job.state = 4 AND job.node >= 0 ORDER BY job.node LIMIT 1)
    UNION ALL
    SELECT following.node
    FROM holder
    CROSS JOIN LATERAL (
        SELECT job.node FROM job WHERE job.state = 4 AND job.node > holder.number ORDER BY job.node LIMIT 1
    ) AS following
)
SELECT holder.number FROM holder WHERE NOT EXISTS (SELECT FROM node WHERE node.number = holder.number)
"""
"""From one number to the next in the index, however many jobs a node holds."""
STAND_IN_FOR_NODE = """
INSERT INTO node (id, number, document, registered_at, beat_at)
VALUES (
    %(node)s, %(number)s, %(document)s, coalesce(%(now)s::timestamptz, now()), coalesce(%(now)s::timestamptz, now())
)
ON CONFLICT DO NOTHING
"""


class JobEnd(NamedTuple):
    """How a job ended, or its attempt, without its worker."""

    id: JobId
    state: int
    attempts_taken_back: int = 0
    error: str | None = None
    is_quarantined: bool | None = None
    """None: as before."""


async def promote(database: Database, *, now: str | None) -> Promotion:
    """Make due jobs pending; see `Backend.promote`."""
    rows = await database.call(PROMOTE, {"limit": str(MAX_BATCH), "now": now})
    counts = {queue: count for queue, count, _ in rows if queue is not None}
    next_due_in = [timedelta(microseconds=microseconds) for queue, _, microseconds in rows if queue is None]
    return Promotion(
        count=int(sum(counts.values())),
        queues=frozenset(counts),
        next_due_in=next_due_in[0] if next_due_in else None,
    )


async def fold(database: Database) -> bool:
    """Add to the counters what they are behind; see `Folding.fold`."""
    [(has_more,)] = await database.call(FOLD, {})
    return bool(has_more)


async def rescue(
    transaction: Transaction, node: NodeId, *, beat: int, trusted: Collection[str], now: str | None
) -> Rescue:
    """Take the jobs of a dead node; see `Backend.rescue`."""
    # Alone: the node's claims under way have ended, and those to come see that it is lost.
    await transaction.rows(LOCK_NODE, {"node": node})
    marked = await transaction.row(MARK_LOST, {"node": node, "beat": beat})
    if marked is None:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)
    rows = await transaction.rows(SELECT_ABANDONED, {"number": marked[0], "limit": MAX_BATCH})
    lost = worker_lost(node)
    error = to_json(lost)
    ends: list[JobEnd] = []
    moves: list[counters.Move] = []
    released: list[unique_keys.Held] = []
    rescued: list[MovedJob] = []
    for job_id, task, queue, attempt, most, has_started, cancel_reason, key in rows:
        is_spared = is_spared_by_rescue(attempt=attempt, max_attempts=most, has_started=has_started)
        state = state_after_rescue(
            attempt=attempt, max_attempts=most, has_started=has_started, is_cancel_requested=cancel_reason is not None
        )
        code = CODES[state]
        ends.append(
            JobEnd(
                id=job_id,
                state=code,
                attempts_taken_back=int(is_spared),
                error=None if is_spared else error,
                is_quarantined=(has_started and task not in trusted) or None,
            )
        )
        moves.append((queue, _RUNNING, code))
        rescued.append(
            MovedJob(
                id=job_id,
                state=state,
                task=task,
                queue=queue,
                attempt=attempt,
                error=None if is_spared else lost,
                cancel_reason=cancel_reason,
            )
        )
        if key is not None and state.is_terminal:
            released.append((key, job_id))
    await _write(transaction, ends, now=now)
    await counters.move(transaction, moves, now=now)
    await unique_keys.release(transaction, released)
    is_finished = len(rows) < MAX_BATCH
    if is_finished:
        # Unless a row was passed by that somebody's transaction holds: the next who looks for the dead comes back.
        await transaction.execute(DEREGISTER, {"node": node})
    queues = frozenset(queue for queue, _, state in moves if state == _PENDING)
    return Rescue(jobs=tuple(rescued), queues=queues, is_finished=is_finished)


async def expire(transaction: Transaction, *, now: str | None) -> list[MovedJob]:
    """Fail jobs that were not started in time; see `Backend.expire`."""
    jobs = await transaction.rows(SELECT_EXPIRED, {"now": now, "limit": MAX_BATCH})
    error = to_json(EXPIRED)
    await _write(transaction, [JobEnd(id=job_id, state=_FAILED, error=error) for job_id, *_ in jobs], now=now)
    await counters.move(transaction, ((queue, state, _FAILED) for _, _, queue, state, _, _ in jobs), now=now)
    await unique_keys.release(transaction, [(key, job_id) for job_id, *_, key in jobs if key is not None])
    return [
        MovedJob(id=job_id, state=State.FAILED, task=task, queue=queue, attempt=attempt, error=EXPIRED)
        for job_id, task, queue, _, attempt, _ in jobs
    ]


async def prune(transaction: Transaction, retention: Retention, *, now: str | None) -> int:
    """Delete ended jobs past their retention; see `Backend.prune`."""
    kept = {
        CODES[State.COMPLETED]: retention.completed,
        CODES[State.FAILED]: retention.failed,
        CODES[State.DISCARDED]: retention.failed,
        CODES[State.CANCELLED]: retention.failed,
    }
    lines = [
        (queue, state, duration(period))
        for queue, state in await counters.counts_of(transaction)
        if (period := kept.get(state)) is not None
    ]
    deleted: list[JobId] = []
    if lines:
        values = {
            "queues": text_array(queue for queue, _, _ in lines),
            "states": array(state for _, state, _ in lines),
            "periods": array(period for _, _, period in lines),
            "limit": MAX_BATCH,
            "now": now,
        }
        old = array([row[0] for row in await transaction.rows(SELECT_OLD, values)])
        ids = [row[0] for row in await transaction.rows(LOCK_OLD, {"ids": old, "states": array(kept)})]
        deleted = await delete_jobs(transaction, ids, states=kept, now=now)
    return len(deleted)


async def prune_counts(transaction: Transaction, *, now: str | None) -> int:
    """Delete what counted the ends of days ago; see `Backend.prune`."""
    return await transaction.execute(DELETE_OLD_COUNTS, {"kept": BUCKETS_KEPT, "now": now})


async def prune_nodes(transaction: Transaction, *, now: str | None) -> int:
    """Delete the nodes that have been silent for long and hold no job; see `Backend.prune`."""
    return await transaction.execute(DELETE_SILENT_NODES, {"silence": duration(SILENT_NODES_KEPT), "now": now})


async def replace_missing_nodes(transaction: Transaction, *, now: str | None) -> int:
    """Register stand-ins for nodes that running jobs name and that are not there; see `Backend.prune`."""
    missing = await transaction.rows(SELECT_MISSING_NODES)
    for (number,) in missing:
        node = stand_in(str(number))
        values = {"node": node.id, "number": number, "document": to_json(node), "now": now}
        await transaction.execute(STAND_IN_FOR_NODE, values)
    return len(missing)


async def delete_jobs(
    transaction: Transaction, ids: Sequence[JobId], *, states: Collection[int], now: str | None
) -> list[JobId]:
    """Delete those of the jobs that are in these states, with what counts them and what they hold; returns them."""
    if not ids:
        return []
    jobs = await transaction.rows(DELETE_JOBS, {"ids": array(sorted(ids)), "states": array(states)})
    await counters.move(transaction, ((queue, state, None) for _, queue, state, _ in jobs), now=now)
    held = [(key, job_id) for job_id, _, state, key in jobs if key is not None and not outlives_deletion(STATES[state])]
    await unique_keys.free(transaction, held)
    deleted = {job_id for job_id, *_ in jobs}
    return [job_id for job_id in ids if job_id in deleted]


async def _write(transaction: Transaction, ends: Sequence[JobEnd], *, now: str | None) -> None:
    if ends:
        values = {
            "ids": array(end.id for end in ends),
            "states": array(end.state for end in ends),
            "taken_back": array(end.attempts_taken_back for end in ends),
            "errors": optional_text_array([end.error for end in ends]),
            "quarantined": optional_array([end.is_quarantined for end in ends]),
            "now": now,
        }
        await transaction.execute(WRITE_ENDS, values)
