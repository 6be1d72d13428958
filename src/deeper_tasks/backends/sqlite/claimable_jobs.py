"""Claimable jobs: which pending jobs a claim takes, and how they are read, all in one JSON document."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from deeper_tasks.backends.round_robin import in_turn
from deeper_tasks.backends.sqlite.codec import CLAIMED_COLUMNS, claimed_jobs, to_claimed_job, to_json
from deeper_tasks.backends.sqlite.database import to_text
from deeper_tasks.backends.sqlite.driver_errors import UNREADABLE, raise_unless_of_content
from deeper_tasks.backends.sqlite.transitions import NEXT_ATTEMPT
from deeper_tasks.backends.sqlite.waiting_queues import WaitingQueues
from deeper_tasks.domain.ids import ClaimToken
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern

_SECONDS = "printf('%.6f', {column} / 1e6)"
"""A moment as a text that msgspec reads to the microsecond: as a number, SQLite would write 15 of its 16 digits."""
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
"""A job as its `ClaimedJob`. Impossible numbers of attempts give a NULL, which no `ClaimedJob` may have."""
_HAS_NOT_STARTED = "0"
"""Most jobs of a claim wait in the worker first; the claim marks those that start at once."""
_PENDING_IN_ORDER = """
FROM deeper_job INDEXED BY deeper_job_pending
WHERE state = 3 AND queue = {queue} AND (expires_at IS NULL OR expires_at > :now)
    AND (:admitted IS NULL OR is_quarantined IS NULL OR rowid IN (SELECT value FROM json_each(:admitted)))
ORDER BY priority, scheduled_at, id
LIMIT {limit}
"""
"""The pending jobs of a queue. Of those in quarantine only the `admitted`, unless that is NULL."""
_FIRST_OF_QUEUE = _PENDING_IN_ORDER.format(queue=":queue", limit=":limit")
SELECT_CLAIMABLE = f"""
SELECT
    json_group_array({_CLAIMED.format(attempt=NEXT_ATTEMPT, has_started=_HAS_NOT_STARTED)}),
    json_group_array(rowid),
    json_group_array(rowid) FILTER (WHERE is_quarantined IS NOT NULL)
FROM (SELECT rowid, {CLAIMED_COLUMNS} {_FIRST_OF_QUEUE})
"""
SELECT_FIRST_OF_EACH = f"""
SELECT json_group_array(json((
    SELECT json_group_array(rowid) FROM (SELECT rowid {_PENDING_IN_ORDER.format(queue="each.value", limit=":most")})
)))
FROM json_each(:queues) AS each
"""
SELECT_CHOSEN = f"""
SELECT json_group_array({_CLAIMED.format(attempt=NEXT_ATTEMPT, has_started=_HAS_NOT_STARTED)})
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
SELECT_CLAIMABLE_ROWS = f"SELECT rowid, {CLAIMED_COLUMNS} {_FIRST_OF_QUEUE}"
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
"""A text that is no valid UTF-8 reads with this character; some texts contain it and are sound."""
NONE = "[]"
"""No jobs, as a JSON list of their rowids."""

_rowids_of_each = msgspec.json.Decoder(list[list[int]])


class ClaimableJobs(NamedTuple):
    """The jobs to claim, as they will be; the rowids of all, and of those in quarantine, both as a JSON list."""

    jobs: tuple[ClaimedJob, ...]
    rowids: str
    in_quarantine: str

    @classmethod
    def of(cls, jobs: tuple[ClaimedJob, ...], rowids: Sequence[int]) -> ClaimableJobs:
        """Return them for jobs and the rowid of each."""
        in_quarantine = [rowid for job, rowid in zip(jobs, rowids, strict=True) if job.is_quarantined]
        return cls(jobs, to_json(rowids), to_json(in_quarantine))


def of_queue(connection: sqlite3.Connection, values: dict[str, Any], *, token: ClaimToken, now: int) -> ClaimableJobs:
    """Return the first pending jobs of a queue."""
    try:
        document, rowids, in_quarantine = connection.execute(SELECT_CLAIMABLE, values).fetchone()
        if _MAY_BE_DAMAGED not in document:
            return ClaimableJobs(claimed_jobs(document), rowids, in_quarantine)
    except UNREADABLE as error:
        raise_unless_of_content(error)
    # A row cannot be read. Each is read by itself, so that the others are claimed as they are.
    rows = _rows(connection, SELECT_CLAIMABLE_ROWS, values)
    jobs = tuple(to_claimed_job(row, attempts=1, has_started=False, token=token, now=now) for row in rows)
    return ClaimableJobs.of(jobs, [row["rowid"] for row in rows])


def of_pattern(
    connection: sqlite3.Connection,
    pattern: QueuePattern,
    values: dict[str, Any],
    *,
    after: str,
    token: ClaimToken,
    now: int,
) -> ClaimableJobs:
    """Return the first pending jobs of the queues that a pattern matches, one of each queue in turn."""
    waiting, limit = WaitingQueues(connection, pattern, after=after), values["limit"]

    def first_of(queues: Sequence[str], most: int) -> list[list[int]]:
        wanted = {"queues": to_json(queues), "most": most, "now": now, "admitted": values["admitted"]}
        return _rowids_of_each.decode(connection.execute(SELECT_FIRST_OF_EACH, wanted).fetchone()[0])

    rowids: list[int] = []
    # All jobs of some queues may have expired, or be in quarantine: then further queues have their turn.
    while (missing := limit - len(rowids)) > 0 and (queues := waiting.following(missing)):
        rowids += in_turn(queues, limit=missing, first_of=first_of)
    if not rowids:
        return ClaimableJobs((), NONE, NONE)
    chosen = {**values, "rowids": to_json(rowids)}
    try:
        document = connection.execute(SELECT_CHOSEN, chosen).fetchone()[0]
        if _MAY_BE_DAMAGED not in document:
            return ClaimableJobs.of(claimed_jobs(document), rowids)
    except UNREADABLE as error:
        raise_unless_of_content(error)
    rows = _rows(connection, SELECT_CHOSEN_ROWS, chosen)
    jobs = tuple(to_claimed_job(row, attempts=1, has_started=False, token=token, now=now) for row in rows)
    return ClaimableJobs.of(jobs, rowids)


def claimed_before(
    connection: sqlite3.Connection, values: dict[str, Any], *, token: ClaimToken, now: int
) -> tuple[ClaimedJob, ...]:
    """Return the jobs that this token has claimed already."""
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
