"""Claiming: takes pending jobs of a queue, or of a pattern's queues, for a worker. One statement for a batch."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from itertools import accumulate

from msgspec.structs import replace

from deeper_tasks.backends.postgres.claim_floor import ClaimFloor, PatternClaimFloor
from deeper_tasks.backends.postgres.codec import Row, array, moment_text, text_array, to_damaged_claim
from deeper_tasks.backends.postgres.database import Database
from deeper_tasks.backends.postgres.moments import DamagedRows
from deeper_tasks.backends.postgres.nodes import lost
from deeper_tasks.backends.protocol import MAX_BATCH, Claim
from deeper_tasks.backends.reading import UNREADABLE, to_options
from deeper_tasks.domain.ids import ClaimToken, NodeId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern

CLAIM = (
    "SELECT id, queue, task, arguments, priority, attempt, max_attempts, inserted_at, scheduled_at, claimed_at, "
    "has_started, passed_by, obstacle, expires_at, unknown_since, unfit_since, is_quarantined, earlier_attempts, "
    "options FROM {schema}.claim("
    "%(queue)s::text, %(limit)s::text::integer, %(slots)s::text::integer, %(node)s::text, %(token)s::text, "
    "%(quarantined)s::text::integer, %(now)s::timestamptz, %(priorities)s::smallint[], %(floors)s::timestamptz[])"
)
CLAIM_IN_TURN = CLAIM.removesuffix(")") + (
    ", %(prefix)s::text, %(after)s::text, %(excluded)s::text[], %(excluded_prefixes)s::text[], "
    "%(known)s::text[], %(known_from)s::integer[], %(known_to)s::integer[], %(highs)s::smallint[])"
)

_CLAIMED_AT, _PASSED_BY, _OBSTACLE, _DETAILS = 9, 11, 12, 13
"""Places in a row. The details are the columns from `expires_at` on."""
_NO_DETAILS = (None, None, None, False, 0, None)
"""The details of nearly all jobs, which have the defaults of `ClaimedJob`: to leave them out saves half of its cost."""


async def claim(
    database: Database,
    claim_floor: ClaimFloor,
    queue: str,
    *,
    limit: int,
    slots: int,
    node: NodeId,
    token: ClaimToken,
    quarantined: int,
    now: str | None,
) -> Claim:
    """Take pending jobs of one queue; see `Backend.claim`."""
    floors = claim_floor.floors()
    values = {
        "queue": queue,
        "limit": str(min(limit, MAX_BATCH)),
        "slots": str(slots),
        "node": node,
        "token": token,
        "quarantined": str(quarantined),
        "now": now,
        "priorities": None if floors is None else array(floors),
        "floors": None if floors is None else text_array(moment_text(floor) for floor in floors.values()),
    }
    rows = await database.call(CLAIM, values, is_urgent=True)
    passed_by = rows[0][_PASSED_BY]
    if rows[0][0] is None:
        obstacle = rows[0][_OBSTACLE]
        if obstacle == "lost":
            raise lost(node)
        if obstacle is None:
            claim_floor.note((), passed_by=passed_by, is_whole=floors is None)
        return Claim()
    jobs = _claimed_jobs(rows, queue, token)
    claim_floor.note(jobs, passed_by=passed_by, is_whole=floors is None)
    return Claim(jobs=jobs)


async def claim_in_turn(
    database: Database,
    claim_floor: PatternClaimFloor,
    pattern: QueuePattern,
    *,
    limit: int,
    slots: int,
    node: NodeId,
    token: ClaimToken,
    after: str,
    quarantined: int,
    now: str | None,
) -> Claim:
    """Take pending jobs of the queues that a pattern matches; see `Backend.claim`."""
    queues = claim_floor.queues(after=after)
    stretches = [] if queues is None else [stretch for queue in queues for stretch in queue.stretches]
    ends = [] if queues is None else list(accumulate(len(queue.stretches) for queue in queues))
    values = {
        "queue": None,
        "limit": str(min(limit, MAX_BATCH)),
        "slots": str(slots),
        "node": node,
        "token": token,
        "quarantined": str(quarantined),
        "now": now,
        "priorities": None if queues is None else array(one.low for one in stretches),
        "floors": None if queues is None else text_array(_floor_text(one.floor) for one in stretches),
        "prefix": pattern.prefix,
        "after": after,
        "excluded": text_array(sorted(pattern.excluded)),
        "excluded_prefixes": text_array(pattern.excluded_prefixes),
        "known": None if queues is None else text_array(each.queue for each in queues),
        "known_from": None
        if queues is None
        else array(end - len(queue.stretches) + 1 for end, queue in zip(ends, queues, strict=True)),
        "known_to": None if queues is None else array(ends),
        "highs": None if queues is None else array(one.high for one in stretches),
    }
    rows = await database.call(CLAIM_IN_TURN, values, is_urgent=True)
    passed_by = rows[0][_PASSED_BY]
    if rows[0][_OBSTACLE] == "lost":
        raise lost(node)
    jobs = () if rows[0][0] is None else _claimed_jobs(rows, None, token)
    claim_floor.note(jobs, passed_by=passed_by, is_whole=queues is None)
    return Claim(jobs=jobs)


def _floor_text(floor: datetime | None) -> str | None:
    return "-infinity" if floor is None else moment_text(floor)


def _claimed_jobs(rows: list[Row], queue: str | None, token: ClaimToken) -> tuple[ClaimedJob, ...]:
    claimed_at = rows[0][_CLAIMED_AT]
    if not isinstance(rows, DamagedRows):
        with suppress(*UNREADABLE):
            return tuple([_claimed(row, queue, token, claimed_at) for row in rows])
    # One of the rows cannot be read: each is read by itself, so that the others are not affected.
    return tuple([_claimed_alone(row, queue, token, claimed_at) for row in rows])


def _claimed_alone(row: Row, queue: str | None, token: ClaimToken, claimed_at: datetime) -> ClaimedJob:
    """Return the job of a row that may be damaged."""
    *most, earlier_attempts, options = row
    job = _claimed((*most, earlier_attempts or 0, None), queue, token, claimed_at)
    return to_damaged_claim(job, options, are_attempts_known=earlier_attempts is not None)


def _claimed(row: Row, queue: str | None, token: ClaimToken, claimed_at: datetime) -> ClaimedJob:
    inserted_at, scheduled_at = row[7], row[8]
    job = ClaimedJob(
        id=row[0],
        token=token,
        task=row[2],
        arguments=row[3],
        queue=queue or row[1],
        priority=row[4],
        attempt=row[5],
        max_attempts=row[6],
        inserted_at=inserted_at,
        scheduled_at=inserted_at if scheduled_at is None else scheduled_at,
        claimed_at=claimed_at,
        expires_at=None,
        has_started=row[10],
    )
    details = row[_DETAILS:]
    return job if details == _NO_DETAILS else _with_details(job, details)


def _with_details(job: ClaimedJob, details: Row) -> ClaimedJob:
    expires_at, unknown_since, unfit_since, is_quarantined, earlier_attempts, options = details
    if earlier_attempts is None:
        raise ValueError
    return replace(
        job,
        expires_at=expires_at,
        unknown_since=unknown_since,
        unfit_since=unfit_since,
        is_quarantined=is_quarantined,
        earlier_attempts=earlier_attempts,
        options=to_options(options) if options else None,
    )
