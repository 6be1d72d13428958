"""Consume: claim, settle, report, beat."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from deeper_tasks.backends.hints import GoesOn, Hints, after_settle
from deeper_tasks.backends.memory.pending_jobs import Gate
from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.memory.tables import Tables
from deeper_tasks.backends.protocol import MAX_BATCH, Beat, Claim
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import Report, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import after_settlement, starts_at_claim


class Settling(NamedTuple):
    """The answer to settlements, and the hints of them."""

    settled: list[Settled]
    hints: Hints


def claim(
    tables: Tables,
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
    """Take pending jobs; see `Backend.claim`."""
    taken = tables.nodes.alive(node).claims.get(token)
    if taken is not None:
        return Claim(jobs=tuple(record.as_claimed() for record in taken.values()))
    gate, pending, paused = Gate(quarantined), tables.jobs.pending, tables.queues.paused()
    if isinstance(queue, QueuePattern):
        queues = (name for name in pending.queues.turn(queue, after=after) if name not in paused)
        records = pending.take_in_turn(queues, limit=min(limit, MAX_BATCH), gate=gate, now=now)
    elif queue in paused:
        return Claim()
    else:
        records = list(pending.take(queue, limit=min(limit, MAX_BATCH), gate=gate, now=now))
    for record in gate.held_back:
        pending.push(record)
    for place, record in enumerate(records):
        has_started = starts_at_claim(place, slots=slots, is_quarantined=record.marks.is_quarantined)
        tables.jobs.claim(record, node=node, token=token, has_started=has_started, now=now)
    return Claim(jobs=tuple(record.as_claimed() for record in records))


def settle(tables: Tables, settlements: Sequence[Settlement], *, now: datetime) -> Settling:
    """Write the ends of attempts; see `Backend.settle`."""
    settled: list[Settled] = []
    go_on: list[GoesOn] = []
    for settlement in settlements:
        record = tables.jobs.records.get(settlement.id)
        if record is None or record.token != settlement.token:
            continue
        if record.led_to is None:
            _end(tables, record, settlement, now=now)
            if not record.state.is_terminal:
                go_on.append((record.spec.queue, record.state, settlement.delay))
        assert record.led_to is not None
        settled.append(Settled(id=record.id, state=record.led_to))
    return Settling(settled, after_settle(go_on) if go_on else [])


def _end(tables: Tables, record: Record, settlement: Settlement, *, now: datetime) -> None:
    change = after_settlement(settlement, is_cancel_requested=record.cancel_requested is not None)
    if settlement.ran_for is not None:
        record.attempted_at = now - settlement.ran_for
    if change.state is State.COMPLETED:
        record.result, record.result_omitted = settlement.result, settlement.result_omitted
    tables.jobs.change(record, change, delay=settlement.delay, error=settlement.error, now=now)


def report(tables: Tables, reports: Sequence[Report], *, now: datetime) -> list[JobId]:
    """Write news of running attempts; see `Backend.report`."""
    accepted: list[JobId] = []
    for news in reports:
        record = tables.jobs.records.get(news.id)
        if record is not None and record.token == news.token and record.state is State.RUNNING:
            record.add_report(news, at=now)
            accepted.append(record.id)
    return accepted


def beat(tables: Tables, node: NodeId, *, busy: int, now: datetime) -> Beat:
    """Count a sign of life; see `Backend.beat`."""
    member = tables.nodes.alive(node)
    member.beat += 1
    member.beat_at = now
    member.busy = busy
    held = member.held()
    return Beat(
        cancels={record.id: record.cancel_requested for record in held if record.cancel_requested is not None},
        held={record.id: record.token for record in held if record.token is not None},
        paused=tables.queues.paused(),
    )
