"""Reads: a job, statistics, nodes, queues. They change nothing, and many jobs do not slow them down."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from deeper_tasks.backends.counting import spans_of, to_held, to_queue_counts
from deeper_tasks.backends.postgres.codec import (
    JOB_COLUMNS,
    Row,
    array,
    plain,
    read_moment,
    read_optional_moment,
    to_job,
)
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.protocol import Counts, NodeRecord, QueueSettings, Service
from deeper_tasks.backends.reading import Reading, read_node
from deeper_tasks.domain.ids import JobId, NodeId, parse_uuid
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.short_ids import bounds

GET = f"SELECT {JOB_COLUMNS} FROM job WHERE id = %(id)s::uuid"
WALK = f"SELECT {JOB_COLUMNS} FROM job WHERE job.id > %(after)s::uuid ORDER BY job.id LIMIT %(limit)s"
FIND_IDS = """
SELECT begun.place, found.id::text
FROM unnest(%(firsts)s::uuid[], %(lasts)s::uuid[]) WITH ORDINALITY AS begun (first, last, place)
CROSS JOIN LATERAL (
    SELECT job.id FROM job WHERE job.id BETWEEN begun.first AND begun.last ORDER BY job.id LIMIT %(limit)s
) AS found
ORDER BY begun.place, found.id
"""
SELECT_MOMENT = """
SELECT coalesce(%(now)s::timestamptz, now()), bucket_of(coalesce(%(now)s::timestamptz, now()))
"""
SELECT_COUNTERS = """
WITH change AS (
    SELECT queue, state, bucket, count FROM counter WHERE bucket = 0
    UNION ALL
    SELECT queue, state, bucket, count FROM counter
    WHERE bucket BETWEEN least(%(day_begins)s, %(hour_begins)s) AND %(day_ends)s
    UNION ALL
    SELECT queue, before, 0, -count::bigint FROM move WHERE before IS NOT NULL
    UNION ALL
    SELECT queue, after, 0, count FROM move WHERE after IS NOT NULL
    UNION ALL
    SELECT queue, after, bucket, count FROM move WHERE after >= 6
)
SELECT queue, state, span.name, within_bigint(sum(count))
FROM change
JOIN (VALUES ('now', 0, 0), ('today', %(day_begins)s, %(day_ends)s), ('last hour', %(hour_begins)s, %(hour_ends)s))
    AS span (name, first, last) ON change.bucket BETWEEN span.first AND span.last
GROUP BY queue, state, span.name
"""
SELECT_HELD = """
SELECT node.id, job.queue, count(*), count(job.attempted_at)
FROM job JOIN node ON node.number = job.node
WHERE job.state = 4
GROUP BY node.id, job.queue
"""
SELECT_KNOWING = "SELECT id, %(task)s = ANY (tasks) FROM node WHERE tasks IS NOT NULL"
SELECT_QUEUES = "SELECT name, paused_at FROM queue ORDER BY name"
SELECT_NODES = "SELECT id, document, beat, busy, registered_at, beat_at, is_lost FROM node ORDER BY id"

_BEFORE_ALL = str(UUID(int=0))


async def get(transaction: Transaction, job_id: JobId) -> Job | None:
    """Return a job, or None."""
    known = parse_uuid(job_id)
    row = None if known is None else await transaction.row(GET, {"id": known})
    return None if row is None else to_job(row)


async def walk(transaction: Transaction, *, after: JobId | None, limit: int) -> list[Job]:
    """Return jobs in the order of their ids; see `Scanning.walk`."""
    return list(map(to_job, await transaction.rows(WALK, {"after": after or _BEFORE_ALL, "limit": limit})))


async def find_ids(transaction: Transaction, *, beginnings: Sequence[str], limit: int) -> list[list[JobId]]:
    """Return the first ids with these beginnings; see `Backend.find_ids`."""
    found: list[list[JobId]] = [[] for _ in beginnings]
    # A text that begins no id has the range of NULL, which holds no job.
    ranges = [bounds(beginning) or (None, None) for beginning in beginnings]
    firsts, lasts = array(first for first, _ in ranges), array(last for _, last in ranges)
    for place, job_id in await transaction.rows(FIND_IDS, {"firsts": firsts, "lasts": lasts, "limit": limit}):
        found[place - 1].append(JobId(job_id))
    return found


async def statistics(transaction: Transaction, *, now: str | None) -> Counts:
    """Return the counts of every queue and the nodes; see `Backend.statistics`."""
    [(moment, this)] = await transaction.rows(SELECT_MOMENT, {"now": now})
    counters = await transaction.rows(SELECT_COUNTERS, spans_of(this))
    return Counts(
        queues=to_queue_counts(counters, await queues(transaction)),
        nodes=tuple(await nodes(transaction)),
        now=moment,
        held=to_held(await transaction.rows(SELECT_HELD)),
    )


async def service(transaction: Transaction, *, queue: str, task: str, now: str | None) -> Service:
    """Return the facts that decide when a job is claimed; see `Backend.service`."""
    [(moment, _)] = await transaction.rows(SELECT_MOMENT, {"now": now})
    settings = next((each for each in await queues(transaction) if each.name == queue), None)
    return Service(
        paused_at=None if settings is None else settings.paused_at,
        nodes=tuple(await nodes(transaction)),
        held=to_held(await transaction.rows(SELECT_HELD)),
        knows_task={
            NodeId(node): knows for node, knows in await transaction.rows(SELECT_KNOWING, {"task": plain(task)})
        },
        now=moment,
    )


async def nodes(transaction: Transaction) -> list[NodeRecord]:
    """Return the registered nodes."""
    return list(map(_to_node, await transaction.rows(SELECT_NODES)))


async def queues(transaction: Transaction) -> list[QueueSettings]:
    """Return the queues that have settings."""
    return list(map(_to_queue, await transaction.rows(SELECT_QUEUES)))


def _to_node(row: Row) -> NodeRecord:
    node, document, beat, busy, registered_at, beat_at, is_lost = row
    reading = Reading()
    return NodeRecord(
        node=read_node(node, document, reading),
        beat=beat,
        busy=busy,
        registered_at=read_moment("registered_at", registered_at, reading),
        beat_at=read_moment("beat_at", beat_at, reading),
        is_lost=is_lost,
        damage=tuple(reading.damage),
    )


def _to_queue(row: Row) -> QueueSettings:
    name, stored = row
    reading = Reading()
    paused_at = read_optional_moment("paused_at", stored, reading)
    return QueueSettings(name=name, paused_at=paused_at, damage=tuple(reading.damage))
