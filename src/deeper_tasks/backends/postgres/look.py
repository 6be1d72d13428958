"""Look: get, statistics, nodes, queues. Reads only, and what many jobs do not slow down."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.postgres.codec import JOB_COLUMNS, to_job
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.protocol import Counts, Node, NodeRecord, QueueCounts, QueueSettings
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State

GET = f"SELECT {JOB_COLUMNS} FROM job WHERE id = %(id)s::uuid"
SELECT_TODAY = """
SELECT coalesce(%(now)s::timestamptz, now()), day_of(coalesce(%(now)s::timestamptz, now()))
"""
SELECT_COUNTERS = """
SELECT queue, state, day, sum(count)::bigint FROM (
    SELECT queue, state, day, count FROM counter WHERE day IN (0, %(today)s)
    UNION ALL
    SELECT queue, before, 0, -count FROM move WHERE before IS NOT NULL
    UNION ALL
    SELECT queue, after, 0, count FROM move WHERE after IS NOT NULL
    UNION ALL
    SELECT queue, after, day, count FROM move WHERE after >= 6 AND day = %(today)s
) AS change
GROUP BY queue, state, day
"""
SELECT_QUEUES = "SELECT name, paused_at FROM queue ORDER BY name"
SELECT_NODES = "SELECT document, beat, busy, registered_at, beat_at, is_lost FROM node ORDER BY id"

_node = msgspec.json.Decoder(Node)


async def get(transaction: Transaction, job_id: JobId) -> Job | None:
    """Return a job, or None."""
    row = await transaction.row(GET, {"id": job_id})
    return None if row is None else to_job(row)


async def statistics(transaction: Transaction, *, now: str | None) -> Counts:
    """Return the counts of every queue and the nodes; see `Backend.statistics`."""
    [(moment, today)] = await transaction.rows(SELECT_TODAY, {"now": now})
    by_state: defaultdict[str, dict[State, int]] = defaultdict(dict)
    ended_today: defaultdict[str, dict[State, int]] = defaultdict(dict)
    for queue, state, day, count in await transaction.rows(SELECT_COUNTERS, {"today": today}):
        (ended_today if day else by_state)[queue][STATES[state]] = count
    paused = {settings.name: settings.paused_at for settings in await queues(transaction)}
    return Counts(
        queues={
            name: QueueCounts(
                by_state={state: by_state[name].get(state, 0) for state in State},
                ended_today={state: by for state, by in ended_today[name].items() if by},
                paused_at=paused.get(name),
            )
            for name in sorted(by_state.keys() | paused.keys())
        },
        nodes=tuple(await nodes(transaction)),
        now=moment,
    )


async def nodes(transaction: Transaction) -> list[NodeRecord]:
    """Return the registered nodes."""
    return [
        NodeRecord(
            node=_node.decode(document),
            beat=beat,
            busy=busy,
            registered_at=registered_at,
            beat_at=beat_at,
            is_lost=is_lost,
        )
        for document, beat, busy, registered_at, beat_at, is_lost in await transaction.rows(SELECT_NODES)
    ]


async def queues(transaction: Transaction) -> list[QueueSettings]:
    """Return the queues for which something is set."""
    return [QueueSettings(name=name, paused_at=paused_at) for name, paused_at in await transaction.rows(SELECT_QUEUES)]
