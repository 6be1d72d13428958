"""Reads: ids by their beginnings, the statistics, and the facts that decide when a job is claimed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

from deeper_tasks.backends.buckets import bucket_of, last_hour, today
from deeper_tasks.backends.memory.tables import Tables
from deeper_tasks.backends.protocol import Counts, QueueCounts, Service
from deeper_tasks.domain.ids import JobId


def find_ids(tables: Tables, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
    """Return the first ids that begin so; see `Backend.find_ids`."""
    ids = sorted(tables.jobs.records)
    starts = [bisect_left(ids, begun) for begun in beginnings]
    return [
        [job_id for job_id in ids[start : start + limit] if job_id.startswith(begun)]
        for start, begun in zip(starts, beginnings, strict=True)
    ]


def statistics(tables: Tables, *, now: datetime) -> Counts:
    """Return the counts of every queue, and the nodes; see `Backend.statistics`."""
    counters, bucket = tables.jobs.counters, bucket_of(now)
    ended_today, ended_last_hour = counters.ended_in(today(bucket)), counters.ended_in(last_hour(bucket))
    names = counters.queues() | ended_today.keys() | ended_last_hour.keys() | tables.queues.names()
    return Counts(
        queues={
            name: QueueCounts(
                by_state=counters.by_state(name),
                ended_today=dict(ended_today[name]),
                ended_last_hour=dict(ended_last_hour[name]),
                paused_at=tables.queues.paused_at(name),
            )
            for name in sorted(names)
        },
        nodes=tables.nodes.records(),
        held=tables.nodes.held_by_queue(),
        now=now,
    )


def service(tables: Tables, queue: str, *, task: str, now: datetime) -> Service:
    """Return the facts that decide when a job is claimed; see `Backend.service`."""
    return Service(
        paused_at=tables.queues.paused_at(queue),
        nodes=tables.nodes.records(),
        held=tables.nodes.held_by_queue(),
        knows_task=tables.nodes.that_know(task),
        now=now,
    )
