"""The queues: queues that no worker serves, forgotten pauses, long waits, full queues."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from shlex import quote

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fault, fine, warning
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot
from deeper_tasks.manager.diagnosis.wording import MANAGER, count
from deeper_tasks.manager.overview import QueueOverview

_LONG = timedelta(minutes=5)
_MANY = 3
"""The number of unserved queues from which on the remedy names a pattern."""


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return what is found about the queues, of those with the most jobs first."""
    queues = sorted(snapshot.overview.queues, key=lambda queue: (-queue.pending, -queue.later, queue.name))
    findings = [
        *_unserved(queues),
        *_paused(snapshot, queues),
        *_waiting_long(snapshot, queues),
        *_full(snapshot, queues),
    ]
    return findings or [fine("queues", f"{count(len(snapshot.overview.queues), 'queue')}, none of them stuck")]


def _unserved(queues: Iterable[QueueOverview]) -> Iterator[Finding]:
    unserved = [queue for queue in queues if not queue.workers]
    with_work = sum(1 for queue in unserved if queue.pending or queue.later)
    for queue in unserved:
        message = f"no living worker serves the queue {queue.name!r}"
        remedy = f"start a worker for it: deeper worker {MANAGER} --queues {quote(queue.name)}:10"
        if with_work >= _MANY:
            remedy += "; --queues '*:10' serves all queues"
        if queue.pending:
            yield fault(
                "unserved queue",
                f"{message}, which has {count(queue.pending, 'pending job')}",
                remedy,
                subject=queue.name,
            )
        elif queue.later:
            yield warning(
                "unserved queue",
                f"{message}, which has {count(queue.later, 'job')} for later",
                remedy,
                subject=queue.name,
            )


def _paused(snapshot: StoreSnapshot, queues: Iterable[QueueOverview]) -> Iterator[Finding]:
    for queue in queues:
        if queue.paused_at is not None:
            yield warning(
                "paused queue",
                f"the queue {queue.name!r} has been paused for {readable(snapshot.now - queue.paused_at)}, "
                f"with {count(queue.pending, 'pending job')}",
                f"deeper queues resume {quote(queue.name)}",
                subject=queue.name,
            )


def _waiting_long(snapshot: StoreSnapshot, queues: Iterable[QueueOverview]) -> Iterator[Finding]:
    for queue in queues:
        oldest = snapshot.oldest.get(queue.name)
        if oldest is None or queue.paused_at is not None or not queue.workers:
            continue
        age = snapshot.now - oldest.scheduled_at
        if age > _LONG:
            yield warning(
                "long wait",
                f"in the queue {queue.name!r} a job has been pending for {readable(age)}: {oldest.id}; "
                f"{queue.pending:,} wait there",
                f"give the queue more slots or workers; it has {count(queue.slots, 'slot')}",
                subject=queue.name,
            )


def _full(snapshot: StoreSnapshot, queues: Iterable[QueueOverview]) -> Iterator[Finding]:
    capacity = snapshot.settings.queue_capacity
    for queue in queues:
        if capacity is not None and queue.pending >= capacity:
            yield warning(
                "full queue",
                f"the queue {queue.name!r} has {count(queue.pending, 'pending job')}, and its capacity is {capacity:,}",
                "give it more slots or workers, or find out who enqueues so much",
                subject=queue.name,
            )
