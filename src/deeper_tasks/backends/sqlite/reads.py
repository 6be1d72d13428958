"""Reads: get, statistics, nodes, queues. None of them is slower with many jobs in the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from deeper_tasks.backends.counting import spans_of, to_held, to_queue_counts
from deeper_tasks.backends.protocol import Counts, NodeRecord, QueueSettings, Service
from deeper_tasks.backends.reading import Reading, read_node
from deeper_tasks.backends.sqlite.codec import (
    BUCKET,
    JOB_COLUMNS,
    moment,
    read_moment,
    read_optional_moment,
    to_job,
    to_json,
)
from deeper_tasks.domain.ids import JobId, NodeId, parse_uuid
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.short_ids import bounds

GET = f"SELECT {JOB_COLUMNS} FROM deeper_job WHERE id = ?"
WALK = f"SELECT {JOB_COLUMNS} FROM deeper_job WHERE id > ? ORDER BY id LIMIT ?"
FIND_IDS = """
SELECT (
    SELECT json_group_array(id) FROM (
        SELECT id FROM deeper_job
        WHERE id BETWEEN json_extract(begun.value, '$[0]') AND json_extract(begun.value, '$[1]')
        ORDER BY id LIMIT :limit
    )
) FROM json_each(:bounds) AS begun
"""
SELECT_COUNTERS = """
SELECT queue, state, 'now', count FROM deeper_counter WHERE bucket = 0
UNION ALL
-- A damaged count must not overflow: all statistics would fail with it.
SELECT queue, state, 'today', sum(min(max(count, -10000000000000), 10000000000000))
FROM deeper_counter WHERE bucket BETWEEN :day_begins AND :day_ends GROUP BY queue, state
UNION ALL
SELECT queue, state, 'last hour', sum(min(max(count, -10000000000000), 10000000000000))
FROM deeper_counter WHERE bucket BETWEEN :hour_begins AND :hour_ends GROUP BY queue, state
"""
SELECT_HELD = """
SELECT node, queue, count(*), count(attempted_at) FROM deeper_job INDEXED BY deeper_job_running
WHERE state = 4 GROUP BY node, queue
"""
SELECT_KNOWING = """
SELECT node, EXISTS (SELECT 1 FROM json_each(tasks) WHERE value = :task) FROM deeper_node_tasks WHERE json_valid(tasks)
"""
SELECT_QUEUES = "SELECT name, paused_at FROM deeper_queue ORDER BY name"
SELECT_NODES = "SELECT id, document, beat, busy, registered_at, beat_at, is_lost FROM deeper_node ORDER BY id"

_ids = msgspec.json.Decoder(list[JobId])


def get(connection: sqlite3.Connection, job_id: JobId) -> Job | None:
    """Return a job, or None."""
    row = connection.execute(GET, (parse_uuid(job_id),)).fetchone()
    return None if row is None else to_job(row)


def walk(connection: sqlite3.Connection, *, after: JobId | None, limit: int) -> list[Job]:
    """Return jobs in the order of their ids; see `Scanning.walk`."""
    return list(map(to_job, connection.execute(WALK, (after or "", limit)).fetchall()))


def find_ids(connection: sqlite3.Connection, *, beginnings: Sequence[str], limit: int) -> list[list[JobId]]:
    """Return the first ids with these beginnings; see `Backend.find_ids`."""
    # A text that begins no id has the bounds NULL, between which there is no id.
    ranges = to_json([bounds(beginning) for beginning in beginnings])
    rows = connection.execute(FIND_IDS, {"bounds": ranges, "limit": limit})
    return [_ids.decode(row[0]) for row in rows]


def statistics(connection: sqlite3.Connection, *, now: int) -> Counts:
    """Return the counts of every queue and the nodes; see `Backend.statistics`."""
    counters = connection.execute(SELECT_COUNTERS, spans_of(now // BUCKET))
    return Counts(
        queues=to_queue_counts(counters, queues(connection)),
        nodes=tuple(nodes(connection)),
        now=moment(now),
        held=to_held(connection.execute(SELECT_HELD)),
    )


def service(connection: sqlite3.Connection, *, queue: str, task: str, now: int) -> Service:
    """Return the facts that decide when a job is claimed; see `Backend.service`."""
    settings = next((each for each in queues(connection) if each.name == queue), None)
    return Service(
        paused_at=None if settings is None else settings.paused_at,
        nodes=tuple(nodes(connection)),
        held=to_held(connection.execute(SELECT_HELD)),
        knows_task={NodeId(node): bool(knows) for node, knows in connection.execute(SELECT_KNOWING, {"task": task})},
        now=moment(now),
    )


def nodes(connection: sqlite3.Connection) -> list[NodeRecord]:
    """Return the registered nodes."""
    return list(map(_to_node, connection.execute(SELECT_NODES)))


def queues(connection: sqlite3.Connection) -> list[QueueSettings]:
    """Return the queues that have settings."""
    return list(map(_to_queue, connection.execute(SELECT_QUEUES)))


def _to_node(row: sqlite3.Row) -> NodeRecord:
    reading = Reading()
    return NodeRecord(
        node=read_node(NodeId(row["id"]), row["document"], reading),
        beat=row["beat"],
        busy=row["busy"],
        registered_at=read_moment("registered_at", row["registered_at"], reading),
        beat_at=read_moment("beat_at", row["beat_at"], reading),
        is_lost=bool(row["is_lost"]),
        damage=tuple(reading.damage),
    )


def _to_queue(row: sqlite3.Row) -> QueueSettings:
    reading = Reading()
    paused_at = read_optional_moment("paused_at", row["paused_at"], reading)
    return QueueSettings(name=row["name"], paused_at=paused_at, damage=tuple(reading.damage))
