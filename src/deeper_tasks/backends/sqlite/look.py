"""Look: get, find, statistics, nodes, queues. Reads only."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import datetime

import msgspec

from deeper_tasks.backends.protocol import (
    Counts,
    Cursor,
    JobFilter,
    JobList,
    JobQuery,
    Node,
    NodeRecord,
    QueueCounts,
    QueueSettings,
    SortKey,
)
from deeper_tasks.backends.sqlite.codec import (
    CODES,
    DAY,
    JOB_COLUMNS,
    STATES,
    micros,
    moment,
    optional_moment,
    to_job,
)
from deeper_tasks.backends.sqlite.filters import where
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State

MOST_COUNTED = 10_000

GET = f"SELECT {JOB_COLUMNS} FROM deeper_job WHERE id = ?"
COUNT = f"SELECT count(*) FROM (SELECT 1 FROM deeper_job WHERE {{condition}} LIMIT {MOST_COUNTED + 1})"
SELECT_COUNTERS = "SELECT queue, state, day, count FROM deeper_counter WHERE day IN (0, ?)"
SELECT_QUEUES = "SELECT name, paused_at FROM deeper_queue ORDER BY name"
SELECT_NODES = "SELECT document, beat, busy, registered_at, beat_at, is_lost FROM deeper_node ORDER BY id"

_node = msgspec.json.Decoder(Node)


def get(connection: sqlite3.Connection, job_id: JobId) -> Job | None:
    """Return a job, or None."""
    row = connection.execute(GET, (job_id,)).fetchone()
    return None if row is None else to_job(row)


def find(connection: sqlite3.Connection, query: JobQuery) -> JobList:
    """Return a page of jobs; see `Backend.find`."""
    statement, values = page_statement(query)
    jobs = tuple(map(to_job, connection.execute(statement, values)))
    total, is_exact = _total(connection, query.filter)
    following = jobs[query.limit - 1] if len(jobs) > query.limit else None
    return JobList(
        jobs=jobs[: query.limit],
        total=total,
        total_is_exact=is_exact,
        next=None if following is None else Cursor(value=_sort_value(following, query.sort_by), id=following.id),
    )


def page_statement(query: JobQuery) -> tuple[str, list[str | int]]:
    """
    Return the statement of a page and its parameters.

    A job without the sort key's time (not finished) comes last, whatever the direction.
    """
    condition, parameters = where(query.filter)
    values: list[str | int] = [*parameters]
    column, is_descending = query.sort_by.value, query.is_descending
    direction, before = ("DESC", "<") if is_descending else ("ASC", ">")
    if query.after is not None:
        if query.after.value is None:
            condition += f" AND {column} IS NULL AND id {before} ?"
            values.append(query.after.id)
        else:
            at = micros(query.after.value)
            condition += f" AND ({column} {before}= ? AND ({column} {before} ? OR id {before} ?)"
            condition += f" OR {column} IS NULL)" if query.sort_by is SortKey.FINISHED_AT else ")"
            values += [at, at, query.after.id]
    nulls = " NULLS LAST" if query.sort_by is SortKey.FINISHED_AT else ""
    # One more than the page tells whether another follows.
    values += [query.limit + 1, query.offset]
    order = f"{column} {direction}{nulls}, id {direction}"
    return f"SELECT {JOB_COLUMNS} FROM deeper_job WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?", values


def _sort_value(job: Job, key: SortKey) -> datetime | None:
    match key:
        case SortKey.INSERTED_AT:
            return job.inserted_at
        case SortKey.SCHEDULED_AT:
            return job.scheduled_at
        case SortKey.FINISHED_AT:
            return job.finished_at


def _total(connection: sqlite3.Connection, condition: JobFilter) -> tuple[int, bool]:
    if condition == JobFilter(states=condition.states, queue=condition.queue):
        codes = None if condition.states is None else {CODES[state] for state in condition.states}
        rows = connection.execute(SELECT_COUNTERS, (0,))
        return sum(
            count
            for queue, state, _, count in rows
            if (codes is None or state in codes) and condition.queue in {None, queue}
        ), True
    clause, values = where(condition)
    count = connection.execute(COUNT.format(condition=clause), values).fetchone()[0]
    return min(count, MOST_COUNTED), count <= MOST_COUNTED


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
