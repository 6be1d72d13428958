"""Maintain: promote, rescue, expire, prune."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.memory.tables import Tables
from deeper_tasks.backends.protocol import MAX_BATCH, SILENT_NODES_KEPT, Promotion, Rescue, Retention
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import MovedJob, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import EXPIRY, PROMOTION, after_delete, after_rescue


def promote(tables: Tables, *, now: datetime) -> Promotion:
    """Make due jobs pending; see `Backend.promote`."""
    due, count, queues = tables.jobs.due, 0, set()
    while (entry := due.first()) is not None and entry[0] <= now and count < MAX_BATCH:
        record = tables.jobs.records[entry[-1]]
        tables.jobs.change(record, PROMOTION, now=now)
        queues.add(record.spec.queue)
        count += 1
    next_due_in = None if entry is None else max(entry[0] - now, timedelta(0))
    return Promotion(count=count, queues=frozenset(queues), next_due_in=next_due_in)


def rescue(tables: Tables, node: NodeId, *, beat: int, trusted: Collection[str], now: datetime) -> Rescue:
    """Take the jobs of a dead node; see `Backend.rescue`."""
    member = tables.nodes.get(node)
    if member is None or member.beat != beat:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)
    member.is_lost = True
    records = member.held(MAX_BATCH)
    jobs = tuple(_take_back(tables, record, node=node, trusted=trusted, now=now) for record in records)
    tables.nodes.remove_idle(node)
    return Rescue(
        jobs=jobs,
        queues=frozenset(job.queue for job in jobs if job.state is State.PENDING),
        is_finished=not member.claims,
    )


def _take_back(tables: Tables, record: Record, *, node: NodeId, trusted: Collection[str], now: datetime) -> MovedJob:
    attempt = record.attempt
    change = after_rescue(
        attempt=attempt,
        max_attempts=record.max_attempts,
        has_started=record.attempted_at is not None,
        is_cancel_requested=record.cancel_requested is not None,
        is_trusted=record.spec.task in trusted,
    )
    error = worker_lost(node) if change.keeps_error else None
    tables.jobs.change(record, change, error=error, now=now)
    return record.as_moved(attempt=attempt, error=error)


def expire(tables: Tables, *, now: datetime) -> list[MovedJob]:
    """Fail jobs that were not started in time; see `Backend.expire`."""
    expiring = tables.jobs.expiring
    expired: list[MovedJob] = []
    while (entry := expiring.first()) is not None and entry[0] <= now and len(expired) < MAX_BATCH:
        record = tables.jobs.records[entry[-1]]
        tables.jobs.change(record, EXPIRY, error=EXPIRED, now=now)
        expired.append(record.as_moved(error=EXPIRED))
    return expired


def prune(tables: Tables, retention: Retention, *, now: datetime) -> int:
    """Delete ended jobs past their retention, and nodes that are silent for long; see `Backend.prune`."""
    jobs = tables.jobs
    heaps = [
        (heap, kept)
        for heap, kept in ((jobs.completed, retention.completed), (jobs.dead, retention.failed))
        if kept is not None
    ]
    tables.nodes.forget_silent(before=now - SILENT_NODES_KEPT)
    for count in range(MAX_BATCH):
        firsts = [entry for heap, kept in heaps if (entry := heap.first()) and entry[0] + kept <= now]
        if not firsts:
            return count
        record = jobs.records[min(firsts)[-1]]
        jobs.change(record, after_delete(record.state), now=now)
    return MAX_BATCH
