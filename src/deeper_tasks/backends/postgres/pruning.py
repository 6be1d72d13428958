"""Pruning: deletes ended jobs past their retention, old counts, silent nodes and expired unique keys, in batches."""

from __future__ import annotations

from deeper_tasks.backends.buckets import BUCKETS_KEPT
from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres import counters, transitions
from deeper_tasks.backends.postgres.codec import array, duration, text_array, to_json
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.protocol import MAX_BATCH, SILENT_NODES_KEPT, Retention
from deeper_tasks.backends.reading import stand_in
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State

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
"""One lookup in the index for each number, however many jobs a node holds."""
STAND_IN_FOR_NODE = """
INSERT INTO node (id, number, document, registered_at, beat_at)
VALUES (
    %(node)s, %(number)s, %(document)s, coalesce(%(now)s::timestamptz, now()), coalesce(%(now)s::timestamptz, now())
)
ON CONFLICT DO NOTHING
"""


async def prune_jobs(transaction: Transaction, retention: Retention, *, now: str | None) -> int:
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
        deleted = await transitions.delete(transaction, ids, states=kept, now=now)
    return len(deleted)


async def prune_counts(transaction: Transaction, *, now: str | None) -> int:
    """Delete the counts of ends that are days old; see `Backend.prune`."""
    return await transaction.execute(DELETE_OLD_COUNTS, {"kept": BUCKETS_KEPT, "now": now})


async def prune_nodes(transaction: Transaction, *, now: str | None) -> int:
    """Delete the nodes that have been silent for long and hold no job; see `Backend.prune`."""
    return await transaction.execute(DELETE_SILENT_NODES, {"silence": duration(SILENT_NODES_KEPT), "now": now})


async def replace_missing_nodes(transaction: Transaction, *, now: str | None) -> int:
    """Register stand-ins for nodes that running jobs name but that are missing; see `Backend.prune`."""
    missing = await transaction.rows(SELECT_MISSING_NODES)
    for (number,) in missing:
        node = stand_in(str(number))
        values = {"node": node.id, "number": number, "document": to_json(node), "now": now}
        await transaction.execute(STAND_IN_FOR_NODE, values)
    return len(missing)
