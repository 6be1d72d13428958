"""The upkeep: whether living workers do what keeps the store in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fault, fine
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot

_CHECK = "upkeep"
_TOLERATED = timedelta(seconds=30)
"""How long after its time a step of upkeep may come, however busy the store is."""


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return the findings about the upkeep; none without a worker, which the check of the workers reports."""
    if not any(worker.is_alive for worker in snapshot.overview.workers):
        return []
    return list(_left_undone(snapshot)) or [fine(_CHECK, "jobs that are due become pending, and expired jobs end")]


def _left_undone(snapshot: StoreSnapshot) -> Iterator[Finding]:
    remedy = "the log of each worker says once why its {} fails; mend that, or restart the workers"
    job = snapshot.next_due
    if job is not None and not job.damage and snapshot.now - job.scheduled_at > _TOLERATED:
        late = readable(snapshot.now - job.scheduled_at)
        message = f"{job.id} ({job.task}) has been due for {late} and is still {job.state}, though a worker is alive"
        yield fault(_CHECK, message, remedy.format("promoter"), subject=job.id)
    limits = [(job.expires_at, job) for job in snapshot.waiting if job.expires_at is not None and not job.damage]
    expires_at, job = min(limits, key=lambda each: each[0], default=(snapshot.now, None))
    if job is not None and snapshot.now - expires_at > _TOLERATED:
        late = readable(snapshot.now - expires_at)
        message = f"{job.id} ({job.task}) expired {late} ago and is still {job.state}, though a worker is alive"
        yield fault(_CHECK, message, remedy.format("expirer"), subject=job.id)
