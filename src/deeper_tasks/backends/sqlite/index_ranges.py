"""Index ranges: the jobs of a queue in a state, their number, and the index that finds these jobs alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.reading import is_count
from deeper_tasks.backends.sqlite.codec import to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.domain.state import TERMINAL, State

SELECT_COUNTS = (
    "SELECT json_group_array(json_array(queue, state, count)) FROM deeper_counter WHERE bucket = 0 AND count <> 0"
)
# Each queue costs one search in the index.
SELECT_QUEUES = """
WITH RECURSIVE present (queue) AS (
    SELECT min(queue) FROM deeper_job INDEXED BY deeper_job_inserted
    UNION ALL
    SELECT (SELECT min(queue) FROM deeper_job INDEXED BY deeper_job_inserted WHERE queue > present.queue)
    FROM present
    WHERE present.queue IS NOT NULL
)
SELECT json_group_array(queue) FROM present WHERE queue IS NOT NULL
"""
RECOUNT = """
SELECT json_group_array(json_array(queue, state, count)) FROM (
    SELECT queue, state, count(*) AS count FROM deeper_job INDEXED BY deeper_job_inserted
    WHERE queue IN (SELECT value FROM json_each(?)) AND state BETWEEN 1 AND 9
    GROUP BY queue, state
)
"""

Counts = Mapping[tuple[str, int], int]
"""The number of jobs of each queue in each state, by its code. A missing key means no jobs."""

_INSERTED, _DUE, _RUNNING = "deeper_job_inserted", "deeper_job_due", "deeper_job_running"
ENDED = frozenset(CODES[state] for state in TERMINAL)
DEAD = ENDED - {CODES[State.COMPLETED]}
_PENDING = CODES[State.PENDING]

_OF_ENDED = "finished_at IS NOT NULL AND queue = :range_queue AND state = :range_state"
_OF_DEAD = "finished_at IS NOT NULL AND state <> 6 AND queue = :range_queue AND state = :range_state"
_OF_PENDING = "state = 3 AND queue = :range_queue"
_OF_QUEUE = "queue = :range_queue"
_OF_MOVED = "scheduled_at <> inserted_at AND queue = :range_queue"
# The indexes of these states do not hold the queue. Blocked jobs have no index of their own.
_OF_LIVE = {
    CODES[State.SCHEDULED]: (_DUE, "state IN (1, 5) AND state = :range_state"),
    CODES[State.RETRYABLE]: (_DUE, "state IN (1, 5) AND state = :range_state"),
    CODES[State.RUNNING]: (_RUNNING, "state = 4"),
    CODES[State.BLOCKED]: (_INSERTED, "state = 2"),
}
_OF_LIVE_IN_QUEUE = " AND queue = :range_queue"

_queues = msgspec.json.Decoder(list[str])
_counts = msgspec.json.Decoder(list[tuple[str, int, int]])


class IndexRange(Struct, frozen=True, kw_only=True):
    """The jobs that satisfy `scope`, found by `index`; `count` is at least how many."""

    index: str
    scope: str
    values: dict[str, Any]
    count: int


def whole_queue(queue: str, count: int) -> IndexRange:
    """Return all jobs of a queue, by the time of their insertion."""
    return IndexRange(index=_INSERTED, scope=_OF_QUEUE, values={"range_queue": queue}, count=count)


def moved(queue: str, count: int) -> IndexRange:
    """Return the jobs of a queue that were not due at once, by their due time."""
    return IndexRange(index="deeper_job_moved", scope=_OF_MOVED, values={"range_queue": queue}, count=count)


def dead(counts: Counts, states: Collection[int], *, queue: str | None) -> Iterator[IndexRange]:
    """Return the ranges of the jobs that ended and did not complete, by the time of their insertion."""
    for (name, state), count in counts.items():
        if state in states and state in DEAD and queue in {None, name}:
            values = {"range_queue": name, "range_state": state}
            yield IndexRange(index="deeper_job_dead", scope=_OF_DEAD, values=values, count=count)


def ranges_of(counts: Counts, states: Collection[int], *, queue: str | None) -> Iterator[IndexRange]:
    """Return ranges that together hold each job in these states once, of one queue or of all."""
    elsewhere: dict[int, int] = {}
    for (name, state), count in counts.items():
        if state not in states or queue not in {None, name}:
            continue
        if state in ENDED:
            values: dict[str, Any] = {"range_queue": name, "range_state": state}
            yield IndexRange(index="deeper_job_ended", scope=_OF_ENDED, values=values, count=count)
        elif state == _PENDING:
            yield IndexRange(index="deeper_job_pending", scope=_OF_PENDING, values={"range_queue": name}, count=count)
        else:
            elsewhere[state] = elsewhere.get(state, 0) + count
    for state, count in elsewhere.items():
        index, scope = _OF_LIVE[state]
        values = {"range_state": state}
        if queue is not None:
            scope += _OF_LIVE_IN_QUEUE
            values["range_queue"] = queue
        yield IndexRange(index=index, scope=scope, values=values, count=count)


def counts_of(connection: Statements) -> Counts:
    """
    Read the numbers of jobs from the counters, without reading jobs.

    The jobs of a queue whose counters cannot be right are counted.
    """
    counts = _counted(connection, SELECT_COUNTS)
    wrong = wrong_queues(connection, counts)
    if wrong:
        sound = {place: count for place, count in counts.items() if place[0] not in wrong}
        return {**sound, **recounted(connection, wrong)}
    return counts


def wrong_queues(connection: Statements, counts: Counts | None = None) -> set[str]:
    """Return the queues that have jobs and no counters, or counters that cannot be right."""
    counts = _counted(connection, SELECT_COUNTS) if counts is None else counts
    present = _queues.decode(connection.execute(SELECT_QUEUES).fetchone()[0])
    return {queue for (queue, _), count in counts.items() if not is_count(count)} | (
        set(present) - {queue for queue, _ in counts}
    )


def recounted(connection: Statements, queues: Collection[str]) -> Counts:
    """Count the jobs of some queues."""
    return _counted(connection, RECOUNT, to_json(sorted(queues)))


def _counted(connection: Statements, statement: str, *values: str) -> Counts:
    document = connection.execute(statement, values).fetchone()[0]
    return {(queue, state): count for queue, state, count in _counts.decode(document)}
