"""Claim: take the pending jobs of a queue, or of those that a pattern matches, for a worker."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from deeper_tasks.backends.protocol import MAX_BATCH, Claim
from deeper_tasks.backends.round_robin import in_turn
from deeper_tasks.backends.sqlite import transitions
from deeper_tasks.backends.sqlite.codec import CLAIMED_COLUMNS, claimed_jobs, to_claimed_job, to_json
from deeper_tasks.backends.sqlite.database import UNREADABLE, raise_unless_of_content, to_text
from deeper_tasks.backends.sqlite.transitions import NEXT_ATTEMPT
from deeper_tasks.domain.ids import ClaimToken, NodeId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern, end_of_prefix
from deeper_tasks.domain.transitions import starts_at_claim
from deeper_tasks.errors import NodeLostError

SELECT_CLAIMANT = """
SELECT
    (SELECT is_lost FROM deeper_node WHERE id = :node),
    (SELECT paused_at FROM deeper_queue WHERE name = :queue),
    EXISTS (SELECT 1 FROM deeper_job WHERE state = 4 AND node = :node AND token = :token)
"""
_SECONDS = "printf('%.6f', {column} / 1e6)"
"""A moment as msgspec reads it, to the microsecond: as a number SQLite would write 15 digits of its 16."""
_OPTIONAL_SECONDS = f"iif({{column}} IS NULL, NULL, {_SECONDS})"
_CLAIMED = f"""json_array(
    id, :token, task, arguments, queue, priority, {{attempt}}, max_attempts,
    {_SECONDS.format(column="inserted_at")}, {_SECONDS.format(column="scheduled_at")}, {_SECONDS.format(column=":now")},
    {_OPTIONAL_SECONDS.format(column="expires_at")}, {{has_started}},
    {_OPTIONAL_SECONDS.format(column="unknown_since")}, {_OPTIONAL_SECONDS.format(column="unfit_since")},
    is_quarantined IS NOT NULL,
    CASE WHEN {{attempt}} >= 1 AND max_attempts >= 1 AND original_max_attempts >= 1
        THEN max_attempts - original_max_attempts
    END,
    json(options)
)"""
"""Where the numbers of the attempts are none of a job's it has a NULL, which no `ClaimedJob` has."""
_WAITS = "0"
"""In the worker, as most do; those that start at once are marked then."""
_BEGINS_WITH_IT = "substr(walk.name, 1, length(value)) = value"
_AFTER_THIS = f"""max(
    walk.name || ' ',
    coalesce((SELECT min(value) || char(1114111) FROM json_each(:excluded_prefixes) WHERE {_BEGINS_WITH_IT}), '')
)"""
"""The next name begins here: no name has a blank, and after all that an excluded prefix begins comes this character."""
_FIRST_WAITING_QUEUE = """(
    SELECT queue FROM deeper_job INDEXED BY deeper_job_pending
    WHERE state = 3 AND queue >= {start} AND queue < :end
    ORDER BY queue
    LIMIT 1
)"""
_LINE = """
FROM deeper_job INDEXED BY deeper_job_pending
WHERE state = 3 AND queue = {queue} AND (expires_at IS NULL OR expires_at > :now)
    AND (:admitted IS NULL OR is_quarantined IS NULL OR rowid IN (SELECT value FROM json_each(:admitted)))
ORDER BY priority, scheduled_at, id
LIMIT {limit}
"""
"""Of the jobs in quarantine only the `admitted`, unless that is NULL."""
_FIRST_IN_LINE = _LINE.format(queue=":queue", limit=":limit")
SELECT_CLAIMABLE = f"""
SELECT
    json_group_array({_CLAIMED.format(attempt=NEXT_ATTEMPT, has_started=_WAITS)}),
    json_group_array(rowid),
    json_group_array(rowid) FILTER (WHERE is_quarantined IS NOT NULL)
FROM (SELECT rowid, {CLAIMED_COLUMNS} {_FIRST_IN_LINE})
"""
SELECT_WAITING_QUEUES = f"""
WITH RECURSIVE walk (name) AS (
    SELECT {_FIRST_WAITING_QUEUE.format(start=":start")}
    UNION ALL
    SELECT {_FIRST_WAITING_QUEUE.format(start=_AFTER_THIS)} FROM walk WHERE walk.name IS NOT NULL
)
SELECT json_group_array(name) FROM (
    SELECT name FROM walk
    WHERE name IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM deeper_queue WHERE deeper_queue.name = walk.name AND paused_at IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM json_each(:excluded) WHERE value = walk.name)
        AND NOT EXISTS (SELECT 1 FROM json_each(:excluded_prefixes) WHERE {_BEGINS_WITH_IT})
    LIMIT :limit
)
"""
"""The queues with pending jobs in a range of names: each is found by one look at the index, from the one before."""
SELECT_FIRST_OF_EACH = f"""
SELECT json_group_array(json((
    SELECT json_group_array(rowid) FROM (SELECT rowid {_LINE.format(queue="line.value", limit=":most")})
)))
FROM json_each(:queues) AS line
"""
SELECT_CHOSEN = f"""
SELECT json_group_array({_CLAIMED.format(attempt=NEXT_ATTEMPT, has_started=_WAITS)})
FROM (
    SELECT deeper_job.* FROM json_each(:rowids) AS chosen CROSS JOIN deeper_job ON deeper_job.rowid = chosen.value
    ORDER BY chosen.key
)
"""
SELECT_CHOSEN_ROWS = f"""
SELECT {CLAIMED_COLUMNS} FROM (
    SELECT deeper_job.*, chosen.key AS place
    FROM json_each(:rowids) AS chosen CROSS JOIN deeper_job ON deeper_job.rowid = chosen.value
)
ORDER BY place
"""
SELECT_CLAIMABLE_ROWS = f"SELECT rowid, {CLAIMED_COLUMNS} {_FIRST_IN_LINE}"
_HAS_STARTED = "attempted_at IS NOT NULL"
SELECT_CLAIMED = f"""
SELECT json_group_array({_CLAIMED.format(attempt="attempt", has_started=_HAS_STARTED)})
FROM (
    SELECT * FROM deeper_job INDEXED BY deeper_job_running
    WHERE state = 4 AND node = :node AND token = :token
    ORDER BY priority, scheduled_at, id
)
"""
SELECT_CLAIMED_ROWS = f"""
SELECT {CLAIMED_COLUMNS} FROM deeper_job INDEXED BY deeper_job_running
WHERE state = 4 AND node = :node AND token = :token
ORDER BY priority, scheduled_at, id
"""


_MAY_BE_DAMAGED = "\N{REPLACEMENT CHARACTER}"
"""The replacement character: a text that is no valid UTF-8 reads with it, and so do some that are whole."""
_NONE = "[]"
_list_of_rowids = msgspec.json.Decoder(list[int])
_names = msgspec.json.Decoder(list[str])
_rowids = msgspec.json.Decoder(list[list[int]])


class _First(NamedTuple):
    """The first jobs in line: those, the rowids of all, and of those in quarantine; both as a JSON list."""

    jobs: tuple[ClaimedJob, ...]
    rowids: str
    in_quarantine: str

    @classmethod
    def of(cls, jobs: tuple[ClaimedJob, ...], rowids: Sequence[int]) -> _First:
        apart = [rowid for job, rowid in zip(jobs, rowids, strict=True) if job.is_quarantined]
        return cls(jobs, to_json(rowids), to_json(apart))


def claim(
    connection: sqlite3.Connection,
    queue: str | QueuePattern,
    *,
    limit: int,
    slots: int,
    node: NodeId,
    token: ClaimToken,
    after: str = "",
    quarantined: int = MAX_BATCH,
    now: int,
) -> Claim:
    """Take pending jobs; see `Backend.claim`."""
    pattern = queue if isinstance(queue, QueuePattern) else None
    name = None if isinstance(queue, QueuePattern) else queue
    values = {"node": node, "token": token, "queue": name, "limit": min(limit, MAX_BATCH), "now": now}
    is_lost, paused_at, is_repeated = connection.execute(SELECT_CLAIMANT, values).fetchone()
    if is_lost is None or is_lost:
        raise NodeLostError(f"the node {node!r} is not registered or was taken for dead")
    if is_repeated:
        return Claim(jobs=_claimed_before(connection, values, token=token, now=now))
    if paused_at is not None:
        return Claim(is_paused=True)

    def first(admitted: str | None) -> _First:
        line = {**values, "admitted": admitted}
        if pattern is None:
            return _claimable(connection, line, token=token, now=now)
        return _claimable_in_turn(connection, pattern, line, after=after, token=token, now=now)

    jobs, rowids, in_quarantine = first(None if quarantined > 0 else _NONE)
    if in_quarantine != _NONE and len(found := _list_of_rowids.decode(in_quarantine)) > quarantined:
        jobs, rowids, _ = first(to_json(found[:quarantined]))
    if not jobs:
        return Claim()
    queues = {name: len(jobs)} if name is not None else Counter(job.queue for job in jobs)
    transitions.claim(connection, rowids, queues=queues, slots=slots, node=node, token=token, now=now)
    for place, job in enumerate(jobs[:slots]):
        # No other code has seen them yet, and a copy of each would cost ten times as much.
        has_started = starts_at_claim(place, slots=slots, is_quarantined=job.is_quarantined)
        msgspec.structs.force_setattr(job, "has_started", has_started)
    return Claim(jobs=jobs)


def _claimable(connection: sqlite3.Connection, values: dict[str, Any], *, token: ClaimToken, now: int) -> _First:
    """Return the jobs to claim, as they will be."""
    try:
        document, rowids, in_quarantine = connection.execute(SELECT_CLAIMABLE, values).fetchone()
        if _MAY_BE_DAMAGED not in document:
            return _First(claimed_jobs(document), rowids, in_quarantine)
    except UNREADABLE as error:
        raise_unless_of_content(error)
    # One of the rows cannot be read: each by itself, so that it harms no other.
    rows = _rows(connection, SELECT_CLAIMABLE_ROWS, values)
    jobs = tuple(to_claimed_job(row, attempts=1, has_started=False, token=token, now=now) for row in rows)
    return _First.of(jobs, [row["rowid"] for row in rows])


def _claimable_in_turn(
    connection: sqlite3.Connection,
    pattern: QueuePattern,
    values: dict[str, Any],
    *,
    after: str,
    token: ClaimToken,
    now: int,
) -> _First:
    """Return the same of all the queues that a pattern matches, in turn."""
    waiting, limit = _WaitingQueues(connection, pattern, after=after), values["limit"]

    def first_of(some: Sequence[str], most: int) -> list[list[int]]:
        line = {"queues": to_json(some), "most": most, "now": now, "admitted": values["admitted"]}
        return _rowids.decode(connection.execute(SELECT_FIRST_OF_EACH, line).fetchone()[0])

    rowids: list[int] = []
    # The jobs of some queues may all have expired, or be in quarantine: then it is the turn of further ones.
    while (missing := limit - len(rowids)) > 0 and (queues := waiting.following(missing)):
        rowids += in_turn(queues, limit=missing, first_of=first_of)
    if not rowids:
        return _First((), _NONE, _NONE)
    chosen = {**values, "rowids": to_json(rowids)}
    try:
        document = connection.execute(SELECT_CHOSEN, chosen).fetchone()[0]
        if _MAY_BE_DAMAGED not in document:
            return _First.of(claimed_jobs(document), rowids)
    except UNREADABLE as error:
        raise_unless_of_content(error)
    rows = _rows(connection, SELECT_CHOSEN_ROWS, chosen)
    jobs = tuple(to_claimed_job(row, attempts=1, has_started=False, token=token, now=now) for row in rows)
    return _First.of(jobs, rowids)


class _WaitingQueues:
    """The queues of a pattern with pending jobs, from the first after a name on and round to it, a few at a time."""

    def __init__(self, connection: sqlite3.Connection, pattern: QueuePattern, *, after: str) -> None:
        first, end = pattern.prefix, end_of_prefix(pattern.prefix)
        start = min(max(first, after + " " if after else ""), end)
        self._connection = connection
        self._ranges = [(first, start), (start, end)]
        self._excluded = {
            "excluded": to_json(pattern.excluded),
            "excluded_prefixes": to_json(pattern.excluded_prefixes),
        }

    def following(self, count: int) -> list[str]:
        """Return the next so many; fewer where the round is over."""
        queues: list[str] = []
        while self._ranges and (missing := count - len(queues)) > 0:
            low, high = self._ranges.pop()
            found = self._between(low, high, missing) if low < high else []
            if len(found) == missing:
                self._ranges.append((found[-1] + " ", high))
            queues += found
        return queues

    def _between(self, low: str, high: str, count: int) -> list[str]:
        values = {**self._excluded, "start": low, "end": high, "limit": count}
        names: list[str] = _names.decode(self._connection.execute(SELECT_WAITING_QUEUES, values).fetchone()[0])
        return names


def _claimed_before(
    connection: sqlite3.Connection, values: dict[str, Any], *, token: ClaimToken, now: int
) -> tuple[ClaimedJob, ...]:
    """Return what this token has claimed."""
    try:
        document = connection.execute(SELECT_CLAIMED, values).fetchone()[0]
        if _MAY_BE_DAMAGED not in document:
            return claimed_jobs(document)
    except UNREADABLE as error:
        raise_unless_of_content(error)
    rows = _rows(connection, SELECT_CLAIMED_ROWS, values)
    return tuple(
        to_claimed_job(row, attempts=0, has_started=row["attempted_at"] is not None, token=token, now=now)
        for row in rows
    )


def _rows(connection: sqlite3.Connection, statement: str, values: dict[str, Any]) -> list[sqlite3.Row]:
    """Return rows whose texts are bytes, as they are stored."""
    connection.text_factory = bytes
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.text_factory = to_text
