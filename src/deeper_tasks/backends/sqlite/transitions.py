"""
Transitions: the one place of this store where jobs enter, change and leave their states.

With the rows go the counters of their queues and the unique keys that they hold, in the caller's transaction. The
other modules read rows and decide (`domain/transitions.py`); what they decide is written here. Every end of a job,
whatever its way, passes `_end`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.sqlite import counters, row_changes, unique_keys
from deeper_tasks.backends.sqlite.codec import HIGHEST_ATTEMPT, to_json
from deeper_tasks.backends.sqlite.database import Statements
from deeper_tasks.backends.sqlite.row_changes import Row, RowChange
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import (
    CANCELLATION,
    COMPLETION,
    LARGEST_NUMBER,
    MANUAL_RETRY,
    Change,
    after_cancel,
    after_delete,
)
from deeper_tasks.domain.unique import Unique

_PENDING, _RUNNING, _COMPLETED = CODES[State.PENDING], CODES[State.RUNNING], CODES[State.COMPLETED]

_COLUMNS = (
    "id, state, task, arguments, queue, priority, max_attempts, original_max_attempts, "
    "inserted_at, scheduled_at, expires_at, options, unique_key"
)
_PARAMETERS = f"({', '.join('?' * len(_COLUMNS.split(',')))})"
_ROWS_A_STATEMENT = 500
NEXT_ATTEMPT = f"min(attempt, {HIGHEST_ATTEMPT}) + 1"
"""The attempt that a claim begins. A damaged number that cannot grow would otherwise fail the whole batch."""
CLAIM = f"""
UPDATE deeper_job SET
    state = 4,
    attempt = max({NEXT_ATTEMPT}, 1),
    node = :node,
    token = :token,
    progress = NULL,
    attempted_at = CASE WHEN claimed.key < :slots AND is_quarantined IS NULL THEN :now END
FROM json_each(:rowids) AS claimed
WHERE deeper_job.rowid = claimed.value
"""
COMPLETE = """
UPDATE deeper_job SET
    state = 6,
    finished_at = :now,
    attempted_at = :now - json_extract(sent.value, '$[1]'),
    result = json_extract(sent.value, '$[2]'),
    result_omitted = json_extract(sent.value, '$[3]')
FROM json_each(:batch) AS sent
WHERE deeper_job.rowid = json_extract(sent.value, '$[0]')
"""
COMPLETE_WITHOUT_RESULT = """
UPDATE deeper_job SET state = 6, finished_at = :now, attempted_at = :now - sent.value
FROM json_each(:batch) AS sent
WHERE deeper_job.rowid = CAST(sent.key AS INTEGER)
"""
PROMOTE = "UPDATE deeper_job SET state = 3 WHERE rowid IN (SELECT value FROM json_each(?))"
CANCEL = """
UPDATE deeper_job SET state = 9, finished_at = :now, cancel_requested = :reason
WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""
REQUEST_CANCEL = """
UPDATE deeper_job SET cancel_requested = coalesce(cancel_requested, :reason)
WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""
RETRY = f"""
UPDATE deeper_job SET
    state = 3,
    max_attempts = min(
        min(max(attempt, 0), {LARGEST_NUMBER}) + min(max(original_max_attempts, 1), {LARGEST_NUMBER}), {LARGEST_NUMBER}
    ),
    scheduled_at = :now,
    finished_at = NULL,
    expires_at = NULL,
    cancel_requested = NULL,
    unknown_since = NULL,
    unfit_since = NULL
WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""
DROP_KEY = "UPDATE deeper_job SET unique_key = NULL WHERE rowid = ?"
RESCHEDULE = "UPDATE deeper_job SET state = ?, scheduled_at = ?, expires_at = ? WHERE rowid = ?"
DELETE = "DELETE FROM deeper_job WHERE rowid IN (SELECT value FROM json_each(?))"

NewRow = tuple[str | int | None, ...]
"""The values of a new job, in the order of `_COLUMNS`."""
Completion = tuple[int, int, str | None, str | None]
"""A job's rowid, the microseconds that its handler ran, its result, and why that is left out."""


def insert(connection: Statements, rows: Sequence[NewRow], *, entered: Counter[tuple[str, int]], now: int) -> None:
    """Insert jobs; `entered` counts them by queue and state."""
    # One statement for many rows, not executemany: each step of a statement lets go of the interpreter's lock,
    # and taking it back from a busy thread costs milliseconds.
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        chunk = rows[start : start + _ROWS_A_STATEMENT]
        connection.execute(insert_statement(len(chunk)), [value for row in chunk for value in row])
    counters.count(connection, {(queue, None, state): count for (queue, state), count in entered.items()}, now=now)


@lru_cache(maxsize=_ROWS_A_STATEMENT)
def insert_statement(rows: int) -> str:
    """Return the statement that inserts this many jobs."""
    return f"INSERT INTO deeper_job ({_COLUMNS}) VALUES {', '.join([_PARAMETERS] * rows)}"


def take_key(connection: Statements, unique: Unique, holder: JobId, *, now: int) -> JobId:
    """Take a unique key for a job if it is free or has expired; returns the job that holds it now."""
    return unique_keys.take(connection, unique, holder, now=now)


def claim(
    connection: Statements,
    rowids: str,
    *,
    queues: Mapping[str, int],
    slots: int,
    node: NodeId,
    token: ClaimToken,
    now: int,
) -> None:
    """Give pending jobs to a worker: `rowids` is a JSON list, `queues` counts the jobs. The first `slots` start."""
    connection.execute(CLAIM, {"rowids": rowids, "slots": slots, "node": node, "token": token, "now": now})
    counters.count(connection, {(queue, _PENDING, _RUNNING): count for queue, count in queues.items()}, now=now)


def complete(
    connection: Statements,
    jobs: Collection[Row],
    *,
    without_result: Mapping[int, int],
    with_result: Sequence[Completion],
    now: int,
) -> None:
    """Complete running jobs: those `with_result`, and those `without_result`, a mapping of rowids to microseconds."""
    if not jobs:
        return
    if without_result:
        connection.execute(COMPLETE_WITHOUT_RESULT, {"now": now, "batch": to_json(without_result)})
    if with_result:
        connection.execute(COMPLETE, {"now": now, "batch": to_json(with_result)})
    queues = Counter(job.queue for job in jobs)
    counters.count(connection, {(queue, _RUNNING, _COMPLETED): count for queue, count in queues.items()}, now=now)
    _end(connection, jobs, COMPLETION, now=now)


def change(connection: Statements, changes: Sequence[RowChange], *, now: int) -> None:
    """Write what attempts, rescues and expiries led to."""
    if not changes:
        return
    row_changes.write(connection, changes, now=now)
    alike: defaultdict[Change, list[Row]] = defaultdict(list)
    for each in changes:
        alike[each.change].append(each.job)
    for after, jobs in alike.items():
        _follow(connection, jobs, after, now=now)


def promote(connection: Statements, due: Sequence[tuple[int, str, int]], *, now: int) -> None:
    """Make due jobs pending; each is given by its rowid, queue and state."""
    if due:
        connection.execute(PROMOTE, (to_json([rowid for rowid, _, _ in due]),))
        counters.count(connection, Counter((queue, state, _PENDING) for _, queue, state in due), now=now)


def cancel(connection: Statements, jobs: Sequence[Row], *, reason: str, now: int) -> None:
    """Cancel the jobs that wait, and ask the workers of those that run to do so."""
    running = [job for job in jobs if after_cancel(_state(job)).requests_cancel]
    waiting = [job for job in jobs if not after_cancel(_state(job)).requests_cancel]
    if running:
        connection.execute(REQUEST_CANCEL, {"reason": reason, "rowids": _rowids(running)})
    if waiting:
        connection.execute(CANCEL, {"now": now, "reason": reason, "rowids": _rowids(waiting)})
        _follow(connection, waiting, CANCELLATION, now=now)


def retry(connection: Statements, jobs: Sequence[Row], *, now: int) -> None:
    """Make ended jobs pending; one whose unique key another job holds by now goes on without it."""
    if not jobs:
        return
    connection.execute(RETRY, {"now": now, "rowids": _rowids(jobs)})
    _follow(connection, jobs, MANUAL_RETRY, now=now)
    for job in jobs:
        if job.unique_key is None:
            continue
        if unique_keys.take(connection, Unique(key=job.unique_key), job.id, now=now) != job.id:
            connection.execute(DROP_KEY, (job.rowid,))


def reschedule(
    connection: Statements,
    row: sqlite3.Row,
    *,
    state: int,
    scheduled_at: int,
    expires_at: int | None,
    now: int,
) -> None:
    """Give a waiting job, a row with `rowid`, `queue` and `state`, another due time, expiry and state."""
    connection.execute(RESCHEDULE, (state, scheduled_at, expires_at, row["rowid"]))
    counters.count(connection, {(row["queue"], row["state"], state): 1}, now=now)


def delete(connection: Statements, jobs: Sequence[Row], *, now: int) -> None:
    """Delete jobs that no worker holds; the deletion of one that has not ended is its end."""
    if not jobs:
        return
    connection.execute(DELETE, (_rowids(jobs),))
    alike: defaultdict[Change, list[Row]] = defaultdict(list)
    for job in jobs:
        alike[after_delete(_state(job))].append(job)
    for after, deleted in alike.items():
        _follow(connection, deleted, after, now=now)


def _follow(connection: Statements, jobs: Collection[Row], after: Change, *, now: int) -> None:
    """Do what follows on the same change of several jobs, whose rows are written: counters, keys, and their end."""
    entered = None if after.state is None else CODES[after.state]
    counters.count(connection, Counter((job.queue, job.state, entered) for job in jobs), now=now)
    if after.frees_key:
        unique_keys.free(connection, _held(jobs))
    if after.is_end:
        _end(connection, jobs, after, now=now)


def _end(
    connection: Statements,
    jobs: Collection[Row],
    after: Change,
    *,
    now: int,  # noqa: ARG001 - an effect that moves other jobs counts them at this moment
) -> None:
    """
    Do what follows on the end of jobs, in its transaction: free the unique keys that they held until then.

    `after.state` is the state that they ended in, which their rows have by now. None: they were deleted before they
    had ended, and their rows are gone. `now` is the moment of their end. Add further effects of an end here.
    """
    if after.releases_key:
        unique_keys.release(connection, _held(jobs))


def _state(job: Row) -> State:
    """Return the state of a job; one that cannot be read stands for a job that waits."""
    return STATES.get(job.state, State.BLOCKED)


def _rowids(jobs: Sequence[Row]) -> str:
    return to_json([job.rowid for job in jobs])


def _held(jobs: Iterable[Row]) -> list[unique_keys.Held]:
    return [(job.unique_key, job.id) for job in jobs if job.unique_key is not None]
