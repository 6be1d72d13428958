"""
Transitions: the statements that change a job's state, its counters and its unique key.

Nothing else in this store does so, except the SQL functions of the hot path (`insert_jobs`, `claim`, `settle`,
`promote`; `fold` adds to the counters). The decisions are made in `domain/transitions.py`; the callers lock the rows
before, in their transaction. Every end of a job, of whatever kind, passes the SQL function `jobs_ended`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.postgres.codec import array, moment_text, optional_array, text_array, to_json
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.protocol import MAX_BATCH
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import MAX_KEPT_ERRORS, ErrorReport
from deeper_tasks.domain.marks import Mark
from deeper_tasks.domain.rescheduling import NewDue
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import Change, after_delete

CHANGE = f"""
WITH moment AS (
    SELECT coalesce(%(now)s::timestamptz, now()) AS now
)
UPDATE job SET
    state = change.state,
    attempt = greatest(greatest(job.attempt, 0) - change.attempts_taken_back, 0),
    max_attempts = coalesce(change.max_attempts, job.max_attempts),
    scheduled_at = CASE WHEN change.starts_anew THEN moment.now ELSE job.scheduled_at END,
    expires_at = CASE WHEN NOT change.starts_anew THEN job.expires_at END,
    finished_at = CASE WHEN change.finishes THEN moment.now END,
    token = CASE WHEN NOT change.drops_token THEN job.token END,
    cancel_requested = CASE WHEN NOT change.starts_anew THEN coalesce(job.cancel_requested, %(reason)s) END,
    unknown_since = CASE WHEN NOT change.starts_anew THEN job.unknown_since END,
    unfit_since = CASE WHEN NOT change.starts_anew THEN job.unfit_since END,
    is_quarantined = CASE WHEN change.mark = {Mark.QUARANTINED:d} THEN true ELSE job.is_quarantined END,
    errors = CASE
        WHEN change.keeps_error AND %(error)s::text IS NOT NULL
        THEN newest_of(listed(job.errors) || error_entry(job.attempt, moment.now, %(error)s::text), {MAX_KEPT_ERRORS})
        ELSE job.errors
    END
FROM moment, unnest(
    %(ids)s::uuid[], %(states)s::smallint[], %(attempts_taken_back)s::integer[], %(max_attempts)s::integer[],
    %(starts_anew)s::boolean[], %(finishes)s::boolean[], %(drops_token)s::boolean[], %(keeps_error)s::boolean[],
    %(marks)s::smallint[]
) AS change (
    id, state, attempts_taken_back, max_attempts, starts_anew, finishes, drops_token, keeps_error, mark
)
WHERE job.id = change.id
"""
MOVE_DUE_TIME = """
UPDATE job SET
    state = %(state)s::smallint,
    scheduled_at = %(scheduled_at)s::timestamptz,
    expires_at = coalesce(%(expires_at)s::timestamptz, job.expires_at)
WHERE job.id = %(id)s::uuid
"""
DELETE = """
DELETE FROM job USING unnest(%(ids)s::uuid[]) AS given (id)
WHERE job.id = given.id AND job.state + 0 = ANY (%(states)s::smallint[])
RETURNING job.id::text, job.queue, job.state, job.unique_key
"""
COUNT_MOVES = """
INSERT INTO move (queue, before, after, bucket, count)
SELECT moved.queue, moved.before, moved.after, bucket_of(coalesce(%(now)s::timestamptz, now())), moved.count
FROM unnest(%(queues)s::text[], %(before)s::smallint[], %(after)s::smallint[], %(counts)s::integer[])
    AS moved (queue, before, after, count)
"""
END_JOBS = """
SELECT jobs_ended(
    %(ids)s::uuid[], %(states)s::smallint[], %(keys)s::text[], coalesce(%(now)s::timestamptz, now())
)
"""
FREE_KEYS = """
DELETE FROM unique_key
USING unnest(%(keys)s::text[], %(holders)s::uuid[]) AS held (key, holder)
WHERE unique_key.key = held.key AND unique_key.holder = held.holder
"""
DELETE_EXPIRED_KEYS = """
DELETE FROM unique_key
WHERE key = ANY (%(keys)s::text[]) AND expires_at <= coalesce(%(now)s::timestamptz, now())
"""
TAKE_KEYS = """
INSERT INTO unique_key (key, holder)
SELECT wanted.key, wanted.holder
FROM unnest(%(keys)s::text[], %(holders)s::uuid[]) WITH ORDINALITY AS wanted (key, holder, place)
ORDER BY wanted.key, wanted.place
ON CONFLICT (key) DO NOTHING
"""
SELECT_HOLDERS = """
SELECT unique_key.key, unique_key.holder::text
FROM unique_key
WHERE unique_key.key = ANY (%(keys)s::text[])
"""
RUN_WITHOUT_KEY = """
UPDATE job SET unique_key = NULL FROM unnest(%(ids)s::uuid[]) AS given (id) WHERE job.id = given.id
"""
PRUNE_KEYS = """
DELETE FROM unique_key
WHERE key = ANY (ARRAY (
    SELECT key FROM unique_key
    WHERE expires_at IS NOT NULL AND expires_at <= coalesce(%(now)s::timestamptz, now())
    ORDER BY expires_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
"""

_Move = tuple[str, int | None, int | None]
"""A job's queue, and the codes of the states before and after; None: the job is new, or it was deleted."""

_Hold = tuple[str, JobId]
"""A unique key and the job that holds it, or is to hold it."""


class Transition(NamedTuple):
    """A change of one job, whose row the transaction has locked."""

    id: JobId
    queue: str
    before: int
    """The code of its state."""
    unique_key: str | None
    change: Change
    max_attempts: int | None = None
    """The new maximum; None: as before."""


class _Ended(NamedTuple):
    id: JobId
    state: State | None
    unique_key: str | None


async def write(
    transaction: Transaction,
    transitions: Sequence[Transition],
    *,
    now: str | None,
    error: ErrorReport | None = None,
    cancel_reason: str | None = None,
) -> None:
    """
    Write changes of locked jobs, with their counters and unique keys.

    `error` and `cancel_reason` are the act's, the same for all. A change that puts a job off or deletes it has a
    function of its own: `move_due_time`, `delete`.
    """
    if not transitions:
        return
    changes = [transition.change for transition in transitions]
    states = [None if one.state is None else CODES[one.state] for one in changes]
    values = {
        "ids": array(transition.id for transition in transitions),
        "states": array(states),
        "attempts_taken_back": array(one.attempts_taken_back for one in changes),
        "max_attempts": optional_array([transition.max_attempts for transition in transitions]),
        "starts_anew": array(one.starts_anew for one in changes),
        "finishes": array(one.finishes for one in changes),
        "drops_token": array(one.drops_token for one in changes),
        "keeps_error": array(one.keeps_error for one in changes),
        "marks": optional_array([None if one.mark is None else int(one.mark) for one in changes]),
        "error": None if error is None else to_json(error),
        "reason": cancel_reason,
        "now": now,
    }
    await transaction.execute(CHANGE, values)
    moves = ((one.queue, one.before, after) for one, after in zip(transitions, states, strict=True))
    await _count(transaction, moves, now=now)
    ended = [_Ended(one.id, one.change.state, one.unique_key) for one in transitions if one.change.is_end]
    await _end(transaction, ended, now=now)
    await _take_keys_again(
        transaction,
        [(one.unique_key, one.id) for one in transitions if one.change.starts_anew and one.unique_key is not None],
        now=now,
    )


async def move_due_time(
    transaction: Transaction, job_id: JobId, new: NewDue, *, queue: str, before: State, now: str | None
) -> None:
    """Write another due time of a locked job. An expiry of None stays as it is."""
    values = {
        "id": job_id,
        "state": CODES[new.state],
        "scheduled_at": moment_text(new.scheduled_at),
        "expires_at": moment_text(new.expires_at),
    }
    await transaction.execute(MOVE_DUE_TIME, values)
    await _count(transaction, [(queue, CODES[before], CODES[new.state])], now=now)


async def delete(
    transaction: Transaction, ids: Sequence[JobId], *, states: Collection[int], now: str | None
) -> list[JobId]:
    """Delete those of the jobs that are in these states, with their counts and unique keys; return their ids."""
    if not ids:
        return []
    jobs = await transaction.rows(DELETE, {"ids": array(sorted(ids)), "states": array(states)})
    changes = {code: after_delete(STATES[code]) for code in {state for _, _, state, _ in jobs}}
    await _count(transaction, ((queue, state, None) for _, queue, state, _ in jobs), now=now)
    freed = [(key, job_id) for job_id, _, state, key in jobs if key is not None and changes[state].frees_key]
    if freed:
        await transaction.execute(FREE_KEYS, _columns(sorted(freed)))
    ended = [_Ended(job_id, None, key) for job_id, _, state, key in jobs if changes[state].is_end]
    await _end(transaction, ended, now=now)
    deleted = {job_id for job_id, *_ in jobs}
    return [job_id for job_id in ids if job_id in deleted]


async def prune_keys(transaction: Transaction, *, now: str | None) -> int:
    """Delete a batch of unique keys whose period is over; return how many."""
    return await transaction.execute(PRUNE_KEYS, {"now": now, "limit": MAX_BATCH})


async def _end(transaction: Transaction, ended: Sequence[_Ended], *, now: str | None) -> None:
    """Do what the end of a job does beside the change of its row, in SQL."""
    if ended:
        values = {
            "ids": array(one.id for one in ended),
            "states": array(None if one.state is None else CODES[one.state] for one in ended),
            "keys": text_array(one.unique_key for one in ended),
            "now": now,
        }
        await transaction.execute(END_JOBS, values)


async def _count(transaction: Transaction, moves: Iterable[_Move], *, now: str | None) -> None:
    """Count jobs out of one state and into another; an end counts for its ten minutes too."""
    counted = Counter((queue, before, after) for queue, before, after in moves if before != after)
    if counted:
        values = {
            "queues": text_array(queue for queue, _, _ in counted),
            "before": array(before for _, before, _ in counted),
            "after": array(after for _, _, after in counted),
            "counts": array(counted.values()),
            "now": now,
        }
        await transaction.execute(COUNT_MOVES, values)


async def _take_keys_again(transaction: Transaction, wanted: Sequence[_Hold], *, now: str | None) -> None:
    """Take keys that are free or whose period is over, each for its first job; the other jobs run without."""
    if not wanted:
        return
    keys = text_array(sorted({key for key, _ in wanted}))
    await transaction.execute(DELETE_EXPIRED_KEYS, {"keys": keys, "now": now})
    await transaction.execute(TAKE_KEYS, _columns(wanted))
    held = {(key, holder) for key, holder in await transaction.rows(SELECT_HOLDERS, {"keys": keys})}
    await transaction.execute(
        RUN_WITHOUT_KEY, {"ids": array(holder for key, holder in wanted if (key, holder) not in held)}
    )


def _columns(holds: Sequence[_Hold]) -> dict[str, str]:
    return {"keys": text_array(key for key, _ in holds), "holders": array(holder for _, holder in holds)}
