"""Look: get, statistics, nodes, queues. Reads only, and what many jobs do not slow down."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

import msgspec

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.protocol import (
    Counts,
    Node,
    NodeRecord,
    QueueCounts,
    QueueSettings,
)
from deeper_tasks.backends.sqlite.codec import DAY, JOB_COLUMNS, moment, optional_moment, to_job
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State

GET = f"SELECT {JOB_COLUMNS} FROM deeper_job WHERE id = ?"
SELECT_COUNTERS = "SELECT queue, state, day, count FROM deeper_counter WHERE day IN (0, ?)"
SELECT_QUEUES = "SELECT name, paused_at FROM deeper_queue ORDER BY name"
SELECT_NODES = "SELECT document, beat, busy, registered_at, beat_at, is_lost FROM deeper_node ORDER BY id"

_node = msgspec.json.Decoder(Node)


def get(connection: sqlite3.Connection, job_id: JobId) -> Job | None:
    """Return a job, or None."""
    row = connection.execute(GET, (job_id,)).fetchone()
    return None if row is None else to_job(row)


def statistics(connection: sqlite3.Connection, *, now: int) -> Counts:
    """Return the counts of every queue and the nodes; see `Backend.statistics`."""
    today = now // DAY
    by_state: defaultdict[str, dict[State, int]] = defaultdict(dict)
    ended_today: defaultdict[str, dict[State, int]] = defaultdict(dict)
    for queue, state, day, count in connection.execute(SELECT_COUNTERS, (today,)):
        (ended_today if day else by_state)[queue][STATES[state]] = count
    paused = {settings.name: settings.paused_at for settings in queues(connection)}
    return Counts(
        queues={
            name: QueueCounts(
                by_state={state: by_state[name].get(state, 0) for state in State},
                ended_today={state: by for state, by in ended_today[name].items() if by},
                paused_at=paused.get(name),
            )
            for name in sorted(by_state.keys() | paused.keys())
        },
        nodes=tuple(nodes(connection)),
        now=moment(now),
    )


def nodes(connection: sqlite3.Connection) -> list[NodeRecord]:
    """Return the registered nodes."""
    return [
        NodeRecord(
            node=_node.decode(row["document"]),
            beat=row["beat"],
            busy=row["busy"],
            registered_at=moment(row["registered_at"]),
            beat_at=moment(row["beat_at"]),
            is_lost=bool(row["is_lost"]),
        )
        for row in connection.execute(SELECT_NODES)
    ]


def queues(connection: sqlite3.Connection) -> list[QueueSettings]:
    """Return the queues for which something is set."""
    return [
        QueueSettings(name=name, paused_at=optional_moment(paused_at))
        for name, paused_at in connection.execute(SELECT_QUEUES)
    ]
