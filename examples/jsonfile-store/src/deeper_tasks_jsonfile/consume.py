"""Consume: the calls of a worker. A claim and its end are identified by their token, never by the worker that calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from deeper_tasks.backends.protocol import MAX_BATCH, Beat, Claim, Node, NodeRecord
from deeper_tasks.backends.round_robin import in_turn
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES, ClaimedJob, Job
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import Report, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import CLAIM, after_settlement, starts_at_claim
from deeper_tasks.errors import NodeLostError
from deeper_tasks_jsonfile.document import Document, Record, number


def register(document: Document, node: Node, *, tasks: frozenset[str] | None, now: datetime) -> None:
    """Make a worker known, and its tasks."""
    document.nodes.setdefault(node.id, NodeRecord(node=node, beat=0, busy=0, registered_at=now, beat_at=now))
    document.tasks.pop(node.id, None)
    if tasks is not None:
        document.tasks[node.id] = tasks


def deregister(document: Document, node: NodeId) -> None:
    """Remove a worker that holds nothing."""
    if not document.held_by(node):
        document.nodes.pop(node, None)


def claim(
    document: Document,
    queue: str | QueuePattern,
    *,
    limit: int,
    slots: int,
    node: NodeId,
    token: ClaimToken,
    after: str,
    quarantined: int,
    now: datetime,
) -> Claim:
    """Take pending jobs; those that this token took before, if it was sent before."""
    _check_alive(document, node)
    taken = sorted((record for record in document.held_by(node) if record.token == token), key=_place)
    if not taken:
        if isinstance(queue, str) and document.is_paused(queue):
            return Claim()
        line = [record for record in document.jobs.values() if _may_run(record.job, now)]
        most = min(limit, MAX_BATCH)
        taken = _first(document, line, queue, limit=most, after=after)
        apart = [record.job.id for record in taken if record.marks.is_quarantined]
        if len(apart) > quarantined:
            admitted = apart[:quarantined]
            line = [record for record in line if not record.marks.is_quarantined or record.job.id in admitted]
            taken = _first(document, line, queue, limit=most, after=after)
        for index, record in enumerate(taken):
            record.token, record.claimed_at, record.led_to = token, now, None
            has_started = starts_at_claim(index, slots=slots, is_quarantined=record.marks.is_quarantined)
            attempt, attempted_at = record.job.attempt + 1, now if has_started else None
            record.change(node=node, attempt=attempt, attempted_at=attempted_at, progress=None)
            document.change(record, CLAIM, now=now)
    return Claim(jobs=tuple(map(_claimed, taken)))


def _first(
    document: Document, line: Sequence[Record], queue: str | QueuePattern, *, limit: int, after: str
) -> list[Record]:
    """Return the first of a queue in a line; of a pattern the first of each queue, then the second, and so on."""

    def first_of(queues: Sequence[str], most: int) -> list[list[Record]]:
        return [sorted((one for one in line if one.job.queue == queue), key=_place)[:most] for queue in queues]

    if isinstance(queue, str):
        return first_of([queue], limit)[0]
    names = {record.job.queue for record in line}
    served = (name for name in names if queue.matches(name) and not document.is_paused(name))
    turn = sorted(served, key=lambda name: (name <= after, name))
    return in_turn(turn, limit=limit, first_of=first_of)


def settle(document: Document, settlements: Sequence[Settlement], *, now: datetime) -> list[Settled]:
    """Write the ends of the attempts whose tokens hold, and repeat the answer for those that are settled."""
    settled: list[Settled] = []
    for settlement in settlements:
        record = document.jobs.get(settlement.id)
        if record is not None and record.token == settlement.token:
            if record.led_to is None:
                _end(document, record, settlement, now=now)
            assert record.led_to is not None
            settled.append(Settled(id=settlement.id, state=record.led_to))
    return settled


def report(document: Document, reports: Sequence[Report], *, now: datetime) -> list[JobId]:
    """Write news of the attempts whose tokens hold."""
    accepted: list[JobId] = []
    for news in reports:
        record = document.jobs.get(news.id)
        if record is not None and record.token == news.token and record.job.state is State.RUNNING:
            job = record.job
            record.change(
                attempted_at=job.attempted_at or (now if news.has_started else None),
                progress=news.progress or job.progress,
                log=(*job.log, *news.lines)[-MAX_KEPT_LOG_LINES:],
            )
            accepted.append(news.id)
    return accepted


def beat(document: Document, node: NodeId, *, busy: int, now: datetime) -> Beat:
    """Count a sign of life, and tell the worker what is asked of it."""
    known = _check_alive(document, node)
    document.nodes[node] = replace(known, beat=known.beat + 1, busy=busy, beat_at=now)
    held = document.held_by(node)
    return Beat(
        cancels={record.job.id: reason for record in held if (reason := record.job.cancel_requested) is not None},
        held={record.job.id: record.token for record in held if record.token is not None},
        paused=frozenset(name for name in document.queues if document.is_paused(name)),
    )


def _check_alive(document: Document, node: NodeId) -> NodeRecord:
    known = document.nodes.get(node)
    if known is None or known.is_lost:
        raise NodeLostError(f"the node {node!r} is not registered or was taken for dead; it must register again")
    return known


def _may_run(job: Job, now: datetime) -> bool:
    is_expired = job.expires_at is not None and job.expires_at <= now
    return job.state is State.PENDING and not is_expired


def _place(record: Record) -> tuple[int, datetime, int]:
    """Return a job's place in the line."""
    return record.job.priority, record.job.scheduled_at, number(record.job.id)


def _end(document: Document, record: Record, settlement: Settlement, *, now: datetime) -> None:
    change = after_settlement(settlement, is_cancel_requested=record.job.cancel_requested is not None)
    if settlement.ran_for is not None:
        record.change(attempted_at=now - settlement.ran_for)
    if change.state is State.COMPLETED:
        record.change(result=settlement.result, result_omitted=settlement.result_omitted)
    document.change(record, change, now=now, delay=settlement.delay, error=settlement.error)


def _claimed(record: Record) -> ClaimedJob:
    job = record.job
    assert record.token is not None
    assert record.claimed_at is not None
    return ClaimedJob(
        id=job.id,
        token=record.token,
        task=job.task,
        arguments=job.arguments,
        queue=job.queue,
        priority=job.priority,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        inserted_at=job.inserted_at,
        scheduled_at=job.scheduled_at,
        claimed_at=record.claimed_at,
        expires_at=job.expires_at,
        has_started=job.attempted_at is not None,
        unknown_since=record.marks.unknown_since,
        unfit_since=record.marks.unfit_since,
        is_quarantined=record.marks.is_quarantined,
        earlier_attempts=job.max_attempts - record.original_max_attempts,
        # Fields that the worker does not need may be damaged: they are only shown.
        damage=tuple(each for each in job.damage if each.field in ClaimedJob.__struct_fields__),
        options=job.options,
    )
