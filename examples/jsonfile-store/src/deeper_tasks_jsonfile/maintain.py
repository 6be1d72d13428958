"""Maintain: what any worker does now and then for all. Each call is a batch, the most pressing first."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from msgspec.structs import replace

from deeper_tasks.backends.buckets import BUCKETS_KEPT, bucket_of
from deeper_tasks.backends.protocol import MAX_BATCH, SILENT_NODES_KEPT, Promotion, Rescue, Retention
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import MovedJob, worker_lost
from deeper_tasks.domain.state import AWAITS_ITS_TIME, MAY_EXPIRE, State
from deeper_tasks.domain.transitions import EXPIRY, PROMOTION, after_delete, after_rescue
from deeper_tasks_jsonfile.document import REQUESTS_KEPT, Document, Record, number


def promote(document: Document, *, now: datetime) -> Promotion:
    """Make due jobs pending."""
    waiting = [record for record in document.jobs.values() if record.job.state in AWAITS_ITS_TIME]
    waiting.sort(key=lambda record: (record.job.scheduled_at, number(record.job.id)))
    due = [record for record in waiting[:MAX_BATCH] if record.job.scheduled_at <= now]
    for record in due:
        document.change(record, PROMOTION, now=now)
    following = waiting[len(due) : len(due) + 1]
    return Promotion(
        count=len(due),
        queues=_queues(due),
        next_due_in=max(following[0].job.scheduled_at - now, timedelta(0)) if following else None,
    )


def rescue(document: Document, node: NodeId, *, beat: int, trusted: Collection[str], now: datetime) -> Rescue:
    """Take jobs from a dead node, and remove it with the last of them."""
    known = document.nodes.get(node)
    if known is None or known.beat != beat:
        return Rescue(jobs=(), queues=frozenset(), is_finished=True)
    document.nodes[node] = replace(known, is_lost=True)
    held = document.held_by(node)
    jobs = tuple(_take_back(document, record, node, trusted=trusted, now=now) for record in held[:MAX_BATCH])
    is_finished = len(held) <= MAX_BATCH
    if is_finished:
        del document.nodes[node]
    return Rescue(
        jobs=jobs,
        queues=_queues([record for record in held if record.job.state is State.PENDING]),
        is_finished=is_finished,
    )


def expire(document: Document, *, now: datetime) -> list[MovedJob]:
    """Fail jobs that no worker started in time."""
    expired = [record for record in document.jobs.values() if _is_expired(record, now)][:MAX_BATCH]
    for record in expired:
        document.change(record, EXPIRY, error=EXPIRED, now=now)
    return [MovedJob.of(record.job, error=EXPIRED) for record in expired]


def prune(document: Document, retention: Retention, *, now: datetime) -> int:
    """Delete ended jobs past their retention, and what else is of no use any more."""
    old: list[tuple[datetime, int, JobId]] = []
    for record in document.jobs.values():
        ended, kept = record.job.finished_at, _kept(record.job.state, retention)
        if ended is not None and kept is not None and ended + kept <= now:
            old.append((ended, number(record.job.id), record.job.id))
    old = sorted(old)[:MAX_BATCH]
    for *_, job_id in old:
        record = document.jobs[job_id]
        document.change(record, after_delete(record.job.state), now=now)
    document.keys = {key: hold for key, hold in document.keys.items() if hold.until is None or hold.until > now}
    recent = now - REQUESTS_KEPT
    document.requests = {name: request for name, request in document.requests.items() if request.made_at > recent}
    oldest = bucket_of(now) - BUCKETS_KEPT
    document.ended = {bucket: counts for bucket, counts in document.ended.items() if bucket >= oldest}
    silent = [known.node.id for known in document.nodes.values() if known.beat_at < now - SILENT_NODES_KEPT]
    for node in silent:
        if not document.held_by(node):
            del document.nodes[node]
    document.tasks = {node: tasks for node, tasks in document.tasks.items() if node in document.nodes}
    return len(old)


def _take_back(
    document: Document, record: Record, node: NodeId, *, trusted: Collection[str], now: datetime
) -> MovedJob:
    job = record.job
    change = after_rescue(
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        has_started=job.attempted_at is not None,
        is_cancel_requested=job.cancel_requested is not None,
        is_trusted=job.task in trusted,
    )
    error = worker_lost(node) if change.keeps_error else None
    document.change(record, change, error=error, now=now)
    return MovedJob.of(record.job, attempt=job.attempt, error=error)


def _is_expired(record: Record, now: datetime) -> bool:
    expires_at = record.job.expires_at
    return record.job.state in MAY_EXPIRE and expires_at is not None and expires_at <= now


def _kept(state: State, retention: Retention) -> timedelta | None:
    return retention.completed if state is State.COMPLETED else retention.failed


def _queues(records: list[Record]) -> frozenset[str]:
    return frozenset(record.job.queue for record in records)
