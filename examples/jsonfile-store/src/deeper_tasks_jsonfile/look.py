"""Look: what is there, and how much of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from deeper_tasks.backends.buckets import Span, bucket_of, last_hour, today
from deeper_tasks.backends.protocol import (
    Counts,
    Cursor,
    HeldJobs,
    JobList,
    JobQuery,
    NodeRecord,
    QueueCounts,
    QueueSettings,
    Service,
)
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from deeper_tasks_jsonfile.document import Document, number

_NEVER = datetime.min.replace(tzinfo=UTC)


def get(document: Document, job_id: JobId) -> Job | None:
    """Return a job, or None."""
    record = document.jobs.get(job_id)
    return None if record is None else record.job


def find(document: Document, query: JobQuery) -> JobList:
    """Return a page of the jobs meant, in order."""

    def place(value: datetime | None, job_id: JobId) -> tuple[bool, datetime, int]:
        # Those without the value come last: they are the greatest going up, the least going down.
        return (value is None) != query.is_descending, value or _NEVER, number(job_id)

    meant = {place(_value(record.job, query), record.job.id): record.job for record in document.matching(query.filter)}
    places = sorted(meant, reverse=query.is_descending)
    if query.after is not None:
        seen = place(query.after.value, query.after.id)
        places = [one for one in places if (one < seen if query.is_descending else one > seen)]
    jobs = tuple(meant[one] for one in places[query.offset : query.offset + query.limit])
    is_last = not jobs or len(places) <= query.offset + query.limit
    return JobList(
        jobs=jobs,
        total=len(meant),
        total_is_exact=True,
        next=None if is_last else Cursor(value=_value(jobs[-1], query), id=jobs[-1].id),
    )


def find_ids(document: Document, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
    """Return the first ids with these beginnings."""
    ids = sorted(document.jobs, key=number)
    return [[job_id for job_id in ids if job_id.startswith(begun)][:limit] for begun in beginnings]


def statistics(document: Document, *, now: datetime) -> Counts:
    """Return the counts of every queue, and the nodes."""
    counted = Counter((record.job.queue, record.job.state) for record in document.jobs.values())
    ended_today, ended_last_hour = (_ended_in(document, span(bucket_of(now))) for span in (today, last_hour))
    names = {queue for queue, _ in counted} | ended_today.keys() | ended_last_hour.keys() | document.queues.keys()
    queues = {
        name: QueueCounts(
            by_state={state: count for (queue, state), count in counted.items() if queue == name},
            ended_today=ended_today.get(name, {}),
            ended_last_hour=ended_last_hour.get(name, {}),
            paused_at=document.queues[name].paused_at if name in document.queues else None,
            damage=document.queues[name].damage if name in document.queues else (),
        )
        for name in sorted(names)
    }
    return Counts(queues=queues, nodes=tuple(document.nodes.values()), now=now, held=_held(document))


def service(document: Document, queue: str, *, task: str, now: datetime) -> Service:
    """Return what decides when a job of this queue and task is claimed."""
    settings = document.queues.get(queue)
    return Service(
        paused_at=None if settings is None else settings.paused_at,
        nodes=tuple(document.nodes.values()),
        held=_held(document),
        knows_task={node: task in tasks for node, tasks in document.tasks.items() if node in document.nodes},
        now=now,
    )


def _held(document: Document) -> tuple[HeldJobs, ...]:
    running = [record.job for record in document.jobs.values() if record.job.state is State.RUNNING]
    claimed = Counter((job.node, job.queue) for job in running)
    begun = Counter((job.node, job.queue) for job in running if job.attempted_at is not None)
    return tuple(
        HeldJobs(node=node, queue=queue, claimed=count, begun=begun[node, queue])
        for (node, queue), count in claimed.items()
        if node is not None
    )


def _ended_in(document: Document, span: Span) -> dict[str, Counter[State]]:
    ended: dict[str, Counter[State]] = {}
    for bucket, by_queue in document.ended.items():
        if span.first <= bucket <= span.last:
            for queue, counts in by_queue.items():
                ended.setdefault(queue, Counter()).update(counts)
    return ended


def nodes(document: Document) -> list[NodeRecord]:
    """Return the registered nodes."""
    return list(document.nodes.values())


def queues(document: Document) -> list[QueueSettings]:
    """Return the queues for which something is set."""
    return [document.queues[name] for name in sorted(document.queues)]


def _value(job: Job, query: JobQuery) -> datetime | None:
    value: datetime | None = getattr(job, query.sort_by.value)
    return value
