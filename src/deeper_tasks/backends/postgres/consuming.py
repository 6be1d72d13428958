"""Consume: register, claim, settle, report, beat. Each is one statement for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import accumulate

from deeper_tasks.backends.codes import CODES, STATES, mark_of
from deeper_tasks.backends.postgres.claim_floor import ClaimFloor, PatternClaimFloor
from deeper_tasks.backends.postgres.codec import (
    Row,
    array,
    duration,
    id_array,
    moment_text,
    optional_array,
    optional_text_array,
    text_array,
    to_damaged_claim,
    to_json,
)
from deeper_tasks.backends.postgres.database import Database, Transaction
from deeper_tasks.backends.postgres.moments import DamagedRows
from deeper_tasks.backends.postgres.refusals import RowLockedError
from deeper_tasks.backends.protocol import MAX_BATCH, Beat, Claim, Node
from deeper_tasks.backends.reading import UNREADABLE, to_options
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES, ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import UNCOUNTED, End, Report, Settled, Settlement, state_after
from deeper_tasks.domain.state import State
from deeper_tasks.errors import NodeLostError

REGISTER = """
INSERT INTO node (id, number, document, registered_at, beat_at, tasks)
VALUES (
    %(node)s, floor(random() * 2147483647), %(document)s, coalesce(%(now)s::timestamptz, now()),
    coalesce(%(now)s::timestamptz, now()), %(tasks)s::text[]
)
ON CONFLICT (id) DO UPDATE SET tasks = excluded.tasks WHERE node.tasks IS DISTINCT FROM excluded.tasks
"""
"""The table refuses a number that another node has; then another one is drawn, as the statement is sent again."""
LOCK_NODE = "SELECT pg_advisory_xact_lock(1684366704, number) FROM node WHERE id = %(node)s"
"""Alone with a node: claims take the same lock shared."""
DEREGISTER = """
DELETE FROM node
WHERE id = %(node)s AND NOT EXISTS (
    SELECT FROM job WHERE job.state = 4 AND job.node = (SELECT number FROM node WHERE id = %(node)s)
)
"""
"""With the number known beforehand: a join may begin with all jobs that run."""
CLAIM = (
    "SELECT id, queue, task, arguments, priority, attempt, max_attempts, inserted_at, scheduled_at, claimed_at, "
    "expires_at, has_started, unknown_since, unfit_since, is_quarantined, earlier_attempts, options, obstacle, "
    "passed_by FROM {schema}.claim("
    "%(queue)s::text, %(limit)s::text::integer, %(slots)s::text::integer, %(node)s::text, %(token)s::text, "
    "%(quarantined)s::text::integer, %(now)s::timestamptz, %(priorities)s::smallint[], %(floors)s::timestamptz[])"
)
CLAIM_IN_TURN = CLAIM.removesuffix(")") + (
    ", %(prefix)s::text, %(after)s::text, %(excluded)s::text[], %(excluded_prefixes)s::text[], "
    "%(known)s::text[], %(known_from)s::integer[], %(known_to)s::integer[], %(highs)s::smallint[])"
)
SETTLE = (
    "SELECT place, state FROM {schema}.settle("
    "%(now)s::timestamptz, %(ids)s::uuid[], %(tokens)s::text[], %(states)s::smallint[], "
    "%(states_if_cancelled)s::smallint[], %(are_uncounted)s::boolean[], %(delays)s::bigint[], "
    "%(run_times)s::bigint[], %(marks)s::smallint[], %(errors)s::text[], %(results)s::text[], "
    "%(results_omitted)s::text[])"
)
SELECT_HELD_ELSEWHERE = """
WITH free AS MATERIALIZED (
    SELECT job.id FROM job WHERE job.id = ANY (%(ids)s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
)
SELECT job.id::text
FROM job
WHERE job.id = ANY (%(ids)s::uuid[]) AND NOT EXISTS (SELECT FROM free WHERE free.id = job.id)
"""
REPORT = (
    "SELECT place FROM {schema}.report("
    "%(now)s::timestamptz, %(ids)s::uuid[], %(tokens)s::text[], %(have_started)s::boolean[], %(progress)s::text[], "
    "%(lines)s::text[], %(most_lines)s::text::integer)"
)
BEAT = (
    "SELECT kind, name, token, reason FROM {schema}.beat(%(node)s::text, %(busy)s::text::integer, %(now)s::timestamptz)"
)

_COMPLETE, _COMPLETED = End.COMPLETE, CODES[State.COMPLETED]
_Key = tuple[JobId, ClaimToken]
"""What a token settles."""

_PUT_OFF = frozenset({End.RETRY, End.SNOOZE})


async def register(transaction: Transaction, node: Node, *, tasks: frozenset[str] | None, now: str | None) -> None:
    """Make a worker known, and its tasks; see `Backend.register`."""
    told = None if tasks is None else text_array(sorted(tasks))
    await transaction.execute(REGISTER, {"node": node.id, "document": to_json(node), "tasks": told, "now": now})


async def deregister(transaction: Transaction, node: NodeId) -> None:
    """Remove a worker that holds nothing; see `Backend.deregister`."""
    await transaction.rows(LOCK_NODE, {"node": node})
    await transaction.execute(DEREGISTER, {"node": node})


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
    passed_by = rows[0][18]
    if rows[0][0] is None:
        obstacle = rows[0][17]
        if obstacle == "lost":
            raise _lost(node)
        if obstacle is None:
            claim_floor.note((), passed_by=passed_by, is_whole=floors is None)
        return Claim(is_paused=obstacle == "paused")
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
    """Take pending jobs of all the queues that a pattern matches; see `Backend.claim`."""
    lines = claim_floor.lines(after=after)
    stretches = [] if lines is None else [stretch for line in lines for stretch in line.stretches]
    ends = [] if lines is None else list(accumulate(len(line.stretches) for line in lines))
    values = {
        "queue": None,
        "limit": str(min(limit, MAX_BATCH)),
        "slots": str(slots),
        "node": node,
        "token": token,
        "quarantined": str(quarantined),
        "now": now,
        "priorities": None if lines is None else array(one.low for one in stretches),
        "floors": None if lines is None else text_array(_floor_text(one.floor) for one in stretches),
        "prefix": pattern.prefix,
        "after": after,
        "excluded": text_array(sorted(pattern.excluded)),
        "excluded_prefixes": text_array(pattern.excluded_prefixes),
        "known": None if lines is None else text_array(line.queue for line in lines),
        "known_from": None
        if lines is None
        else array(end - len(line.stretches) + 1 for end, line in zip(ends, lines, strict=True)),
        "known_to": None if lines is None else array(ends),
        "highs": None if lines is None else array(one.high for one in stretches),
    }
    rows = await database.call(CLAIM_IN_TURN, values, is_urgent=True)
    obstacle, passed_by = rows[0][17:19]
    if obstacle == "lost":
        raise _lost(node)
    jobs = () if rows[0][0] is None else _claimed_jobs(rows, None, token)
    claim_floor.note(jobs, passed_by=passed_by, is_whole=lines is None)
    return Claim(jobs=jobs)


def _floor_text(floor: datetime | None) -> str | None:
    return "-infinity" if floor is None else moment_text(floor)


def _claimed_jobs(rows: list[Row], queue: str | None, token: ClaimToken) -> tuple[ClaimedJob, ...]:
    if not isinstance(rows, DamagedRows):
        with suppress(*UNREADABLE):
            return tuple([_claimed(row, queue, token) for row in rows])
    # One of the rows cannot be read: each by itself, so that it harms no other.
    return tuple([_claimed_apart(row, queue, token) for row in rows])


def _claimed_apart(row: Row, queue: str | None, token: ClaimToken) -> ClaimedJob:
    """Return the job of a row that may be damaged."""
    *most, earlier_attempts, options, _, _ = row
    job = _claimed((*most, earlier_attempts or 0, None, None, None), queue, token)
    return to_damaged_claim(job, options, are_attempts_known=earlier_attempts is not None)


def _claimed(row: Row, queue: str | None, token: ClaimToken) -> ClaimedJob:
    (
        job_id,
        own_queue,
        task,
        arguments,
        priority,
        attempt,
        max_attempts,
        inserted_at,
        scheduled_at,
        claimed_at,
        expires_at,
        has_started,
        unknown_since,
        unfit_since,
        is_quarantined,
        earlier_attempts,
        options,
        _,
        _,
    ) = row
    if earlier_attempts is None:
        raise ValueError
    return ClaimedJob(
        id=job_id,
        token=token,
        task=task,
        arguments=arguments,
        queue=queue or own_queue,
        priority=priority,
        attempt=attempt,
        max_attempts=max_attempts,
        inserted_at=inserted_at,
        scheduled_at=scheduled_at,
        claimed_at=claimed_at,
        expires_at=expires_at,
        has_started=has_started,
        unknown_since=unknown_since,
        unfit_since=unfit_since,
        is_quarantined=is_quarantined,
        earlier_attempts=earlier_attempts,
        options=to_options(options) if options else None,
    )


async def settle(database: Database, settlements: Sequence[Settlement], *, now: str | None) -> list[Settled]:
    """
    Write the ends of attempts; see `Backend.settle`.

    Raises:
        BackendUnavailableError: another transaction holds a job's row; all others are settled.
    """
    first: dict[_Key, Settlement] = {}
    for settlement in settlements:
        first.setdefault((settlement.id, settlement.token), settlement)
    # Sorted: all who change several jobs lock them in the order of their ids.
    sent = [first[key] for key in sorted(first)]
    states = await _settle(database, sent, now=now)
    return [
        Settled(id=settlement.id, state=STATES[states[settlement.id, settlement.token]])
        for settlement in settlements
        if states.get((settlement.id, settlement.token)) in STATES
    ]


async def _settle(database: Database, sent: Sequence[Settlement], *, now: str | None) -> dict[_Key, int]:
    if not sent:
        return {}
    try:
        rows = await database.call(SETTLE, ends_of(sent, now=now), is_urgent=True)
    except RowLockedError as error:
        return await _settle_around(database, sent, error, now=now)
    states: dict[_Key, int] = {}
    for place, state in rows:
        states.setdefault((sent[place - 1].id, sent[place - 1].token), state)
    return states


async def _settle_around(
    database: Database, sent: Sequence[Settlement], locked: RowLockedError, *, now: str | None
) -> dict[_Key, int]:
    """Settle all whose rows are free, and fail for the one that is not: sent again, they are accepted again."""
    ids = id_array([one.id for one in sent])
    held = set(await database.run(partial(_held_elsewhere, ids=ids)))
    await _settle(database, [one for one in sent if one.id not in held], now=now)
    if held:
        locked.job_ids = tuple(held)
        raise locked
    return await _settle(database, sent, now=now)


async def _held_elsewhere(transaction: Transaction, *, ids: str) -> list[JobId]:
    return [row[0] for row in await transaction.rows(SELECT_HELD_ELSEWHERE, {"ids": ids})]


def ends_of(sent: Sequence[Settlement], *, now: str | None) -> dict[str, str | None]:
    """Return the parameters of `SETTLE`."""
    codes = [_codes(one) for one in sent]
    return {
        "now": now,
        "ids": id_array([one.id for one in sent]),
        "tokens": text_array([one.token for one in sent]),
        "states": array([code for code, _ in codes]),
        "states_if_cancelled": array([code for _, code in codes]),
        "are_uncounted": optional_array([_is_uncounted(one) for one in sent]),
        "delays": optional_array([_delay(one) for one in sent]),
        "run_times": optional_array([_run_time(one) for one in sent]),
        "marks": optional_array([mark_of(one) for one in sent]),
        "errors": optional_text_array([None if one.error is None else to_json(one.error) for one in sent]),
        "results": optional_text_array([one.result for one in sent]),
        "results_omitted": optional_text_array([one.result_omitted for one in sent]),
    }


def _codes(settlement: Settlement) -> tuple[int, int]:
    """Return the codes of the state that follows, as it is and where a cancel was requested."""
    if settlement.end is _COMPLETE:
        return _COMPLETED, _COMPLETED
    as_it_is = state_after(settlement.end, delay=settlement.delay, is_cancel_requested=False)
    if_cancelled = state_after(settlement.end, delay=settlement.delay, is_cancel_requested=True)
    return CODES[as_it_is], CODES[if_cancelled]


def _is_uncounted(settlement: Settlement) -> bool | None:
    return True if settlement.end is not _COMPLETE and settlement.end in UNCOUNTED else None


def _delay(settlement: Settlement) -> int | None:
    """From now until it is due again; None where it has ended, or keeps its place in the line."""
    end = settlement.end
    if end is _COMPLETE or not (end in _PUT_OFF or (end is End.RELEASE and settlement.delay)):
        return None
    return duration(settlement.delay)


def _run_time(settlement: Settlement) -> int | None:
    if settlement.ran_for is None:
        return 0 if settlement.end is _COMPLETE else None
    return duration(settlement.ran_for)


async def report(database: Database, reports: Sequence[Report], *, now: str | None) -> list[JobId]:
    """Write news of running attempts; see `Backend.report`."""
    if not reports:
        return []
    sent = sorted(enumerate(reports), key=lambda numbered: numbered[1].id)
    rows = await database.call(REPORT, news_of([news for _, news in sent], now=now))
    return [reports[place].id for place in sorted(sent[row[0] - 1][0] for row in rows)]


def news_of(sent: Sequence[Report], *, now: str | None) -> dict[str, str | None]:
    """Return the parameters of `REPORT`."""
    return {
        "now": now,
        "ids": array(news.id for news in sent),
        "tokens": text_array(news.token for news in sent),
        "have_started": array(news.has_started for news in sent),
        "progress": text_array(None if news.progress is None else to_json(news.progress) for news in sent),
        "lines": text_array(to_json(news.lines) if news.lines else None for news in sent),
        "most_lines": str(MAX_KEPT_LOG_LINES),
    }


async def beat(database: Database, node: NodeId, *, busy: int, now: str | None) -> Beat:
    """Count a sign of life; see `Backend.beat`."""
    cancels: dict[JobId, str] = {}
    held: dict[JobId, ClaimToken] = {}
    paused: set[str] = set()
    for kind, name, token, reason in await database.call(BEAT, {"node": node, "busy": str(busy), "now": now}):
        if kind == "lost":
            raise _lost(node)
        if kind == "paused":
            paused.add(name)
            continue
        if token is not None:
            held[JobId(name)] = ClaimToken(token)
        if reason is not None:
            cancels[JobId(name)] = reason
    return Beat(cancels=cancels, held=held, paused=frozenset(paused))


def _lost(node: NodeId) -> NodeLostError:
    return NodeLostError(f"the node {node!r} is not registered or was taken for dead")
