"""Control: cancel, retry, delete over ids or a filter, another due time for a job, and what is set for a queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.postgres import counters, unique_keys
from deeper_tasks.backends.postgres.codec import array, duration, moment_text, plain
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.filters import where, where_content
from deeper_tasks.backends.postgres.index_ranges import scope_of
from deeper_tasks.backends.postgres.maintenance import delete_jobs
from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, QueueSettings, Retried
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.settlement import MovedJob
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, MAY_RUN_AGAIN, TERMINAL, State

_PENDING, _RUNNING, _CANCELLED = CODES[State.PENDING], CODES[State.RUNNING], CODES[State.CANCELLED]

SELECT_NAMED: str = """
SELECT job.id::text FROM job WHERE {condition} AND job.state + 0 = ANY (%(changeable)s::smallint[]) LIMIT %(limit)s
"""
SELECT_MEANT: str = """
SELECT found.id::text
FROM unnest(ARRAY[%(line_queue)s::text], ARRAY[%(line_state)s::smallint]) AS line (queue, state)
CROSS JOIN LATERAL (
    SELECT job.id FROM job
    WHERE {scope} AND {condition} AND {is_open} AND job.id <> ALL (%(known)s::uuid[])
    ORDER BY {order}
    LIMIT %(limit)s
) AS found
"""
# In the order of the ids, as they come sorted.
LOCK_MEANT = """
SELECT job.id::text, job.queue, job.state, job.unique_key, job.task, job.attempt, job.cancel_requested
FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS meant (id, place)
JOIN job ON job.id = meant.id
WHERE job.state + 0 = ANY (%(changeable)s::smallint[])
ORDER BY meant.place
FOR NO KEY UPDATE OF job
"""
_NOT_ASKED_BEFORE: str = "NOT (job.state = 4 AND job.cancel_requested IS NOT NULL)"
_CANCELLABLE = frozenset(CODES.values()) - {CODES[state] for state in TERMINAL}
_RETRYABLE = frozenset(CODES[state] for state in MAY_RUN_AGAIN)
_RESCHEDULABLE = frozenset(CODES[state] for state in MAY_BE_RESCHEDULED)
_DELETABLE = frozenset(CODES.values()) - {_RUNNING}

CANCEL = """
UPDATE job SET state = 9, finished_at = coalesce(%(now)s::timestamptz, now()), cancel_requested = %(reason)s
FROM unnest(%(ids)s::uuid[]) AS meant (id)
WHERE job.id = meant.id
"""
REQUEST_CANCEL = """
UPDATE job SET cancel_requested = coalesce(job.cancel_requested, %(reason)s)
FROM unnest(%(ids)s::uuid[]) AS meant (id)
WHERE job.id = meant.id
"""
RETRY = """
UPDATE job SET
    state = 3,
    max_attempts = least(greatest(job.attempt, 0)::bigint + greatest(job.original_max_attempts, 1), 2147483647),
    scheduled_at = coalesce(%(now)s::timestamptz, now()),
    finished_at = NULL,
    expires_at = NULL,
    cancel_requested = NULL,
    unknown_since = NULL,
    unfit_since = NULL
FROM unnest(%(ids)s::uuid[]) AS meant (id)
WHERE job.id = meant.id
"""
DROP_KEYS = """
UPDATE job SET unique_key = NULL FROM unnest(%(ids)s::uuid[]) AS meant (id) WHERE job.id = meant.id
"""
# The rules are those of domain/rescheduling.py. An expiry is moved only where neither moment is damaged: with
# another their difference could not be written, or would mean nothing. In UTC: the days of a difference are added by
# the zone of the session, which through a pooler is anyone's, and are not all as long in other zones.
RESCHEDULE = """
WITH moment AS (
    SELECT coalesce(%(now)s::timestamptz, now()) AS now
), wanted AS (
    SELECT
        moment.now,
        greatest(
            least(
                coalesce(%(due)s::timestamptz, moment.now + %(delay)s * interval '1 microsecond'),
                '9999-12-30 00:00+00'
            ),
            moment.now
        ) AS due
    FROM moment
), meant AS (
    SELECT job.id, job.state AS before, job.scheduled_at AS was
    FROM job
    WHERE job.id = %(id)s::uuid AND job.state + 0 = ANY (%(changeable)s::smallint[])
    FOR NO KEY UPDATE
)
UPDATE job SET
    state = CASE WHEN wanted.due <= wanted.now THEN 3 WHEN meant.before = 5 THEN 5 ELSE 1 END,
    scheduled_at = wanted.due,
    expires_at = CASE
        WHEN %(keeps_expiry)s OR job.expires_at IS NULL OR (wanted.due < meant.was AND job.expires_at <= meant.was)
            OR meant.was NOT BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
            OR job.expires_at NOT BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
        THEN job.expires_at
        ELSE least(
            (
                job.expires_at AT TIME ZONE 'UTC'
                + (wanted.due AT TIME ZONE 'UTC' - meant.was AT TIME ZONE 'UTC')
            ) AT TIME ZONE 'UTC',
            '9999-12-30 00:00+00'
        )
    END
FROM meant, wanted
WHERE job.id = meant.id
RETURNING job.task, job.queue, job.attempt, meant.before, job.state, job.scheduled_at
"""
SELECT_PENDING = """
SELECT job.task, job.queue, job.attempt, job.state, job.state, job.scheduled_at
FROM job WHERE job.id = %(id)s::uuid AND job.state + 0 = 3
"""
PUT_QUEUE = """
INSERT INTO queue (name, paused_at) VALUES (%(name)s, %(paused_at)s::timestamptz)
ON CONFLICT (name) DO UPDATE SET paused_at = excluded.paused_at
"""


class _Meant(NamedTuple):
    """A job that a filter means, locked."""

    id: JobId
    queue: str
    state: int
    unique_key: str | None
    task: str
    attempt: int
    cancel_requested: str | None

    def cancelled(self, reason: str) -> MovedJob:
        """Return what is to be told of it when it was cancelled, or asked to end."""
        return MovedJob(
            id=self.id,
            state=State.RUNNING if self.state == _RUNNING else State.CANCELLED,
            task=self.task,
            queue=self.queue,
            attempt=self.attempt,
            cancel_reason=reason if self.cancel_requested is None else self.cancel_requested,
        )


async def cancel(transaction: Transaction, target: JobFilter, *, reason: str, now: str | None) -> list[MovedJob]:
    """Cancel the jobs meant, or request it; see `Backend.cancel`."""
    jobs = await _select(transaction, target, _CANCELLABLE, is_open=_NOT_ASKED_BEFORE)
    running = [job.id for job in jobs if job.state == _RUNNING]
    waiting = [job for job in jobs if job.state != _RUNNING]
    reason = plain(reason)
    values = {"reason": reason, "now": now}
    if running:
        await transaction.execute(REQUEST_CANCEL, {**values, "ids": array(running)})
    if waiting:
        await transaction.execute(CANCEL, {**values, "ids": array(job.id for job in waiting)})
    await counters.move(transaction, ((job.queue, job.state, _CANCELLED) for job in waiting), now=now)
    await unique_keys.release(transaction, [(job.unique_key, job.id) for job in waiting if job.unique_key is not None])
    return [job.cancelled(reason) for job in jobs]


async def retry(transaction: Transaction, target: JobFilter, *, now: str | None) -> list[Retried]:
    """Make ended jobs pending again; see `Backend.retry`."""
    jobs = await _select(transaction, target, _RETRYABLE)
    if not jobs:
        return []
    await transaction.execute(RETRY, {"now": now, "ids": array(job.id for job in jobs)})
    await counters.move(transaction, ((job.queue, job.state, _PENDING) for job in jobs), now=now)
    wanted = [(job.unique_key, job.id) for job in jobs if job.unique_key is not None]
    if wanted:
        taken = await unique_keys.take_again(transaction, wanted, now=now)
        await transaction.execute(DROP_KEYS, {"ids": array(held[1] for held in wanted if held not in taken)})
    return [Retried(id=job.id, queue=job.queue) for job in jobs]


async def reschedule(
    transaction: Transaction, job_id: JobId, *, due: datetime | timedelta | None, now: str | None
) -> Rescheduled | None:
    """Give a waiting job another due time; see `Backend.reschedule`."""
    values = {
        "id": job_id,
        "due": moment_text(due) if isinstance(due, datetime) else None,
        "delay": duration(due) if isinstance(due, timedelta) else 0,
        "keeps_expiry": due is None,
        # To run at once is nothing new for a pending one.
        "changeable": array(_RESCHEDULABLE - {_PENDING} if due is None else _RESCHEDULABLE),
        "now": now,
    }
    changed = await transaction.rows(RESCHEDULE, values)
    rows = changed or (await transaction.rows(SELECT_PENDING, {"id": job_id}) if due is None else [])
    if not rows:
        return None
    [(task, queue, attempt, before, state, scheduled_at)] = rows
    if changed:
        await counters.move(transaction, [(queue, before, state)], now=now)
    return Rescheduled(
        id=job_id,
        task=task,
        queue=queue,
        attempt=attempt,
        before=STATES[before],
        state=STATES[state],
        scheduled_at=scheduled_at,
    )


async def delete(transaction: Transaction, target: JobFilter) -> list[JobId]:
    """Delete the jobs meant; see `Backend.delete`."""
    jobs = await _select(transaction, target, _DELETABLE)
    return await delete_jobs(transaction, [job.id for job in jobs], states=_DELETABLE, now=None)


async def put_queue(transaction: Transaction, settings: QueueSettings) -> None:
    """Set what holds for a queue; see `Backend.put_queue`."""
    await transaction.execute(PUT_QUEUE, {"name": plain(settings.name), "paused_at": moment_text(settings.paused_at)})


async def _select(
    transaction: Transaction, target: JobFilter, changeable: frozenset[int], *, is_open: str = "TRUE"
) -> list[_Meant]:
    """Lock and return the first of the jobs meant: by their ids, or along the lines that hold them and few others."""
    if target.ids is not None:
        condition, values = where(target)
        values |= {"changeable": array(changeable), "limit": MAX_BATCH}
        ids = [row[0] for row in await transaction.rows(SELECT_NAMED.format(condition=condition), values)]
        return await _lock(transaction, ids, changeable)
    states = changeable if target.states is None else changeable & {CODES[state] for state in target.states}
    jobs: list[_Meant] = []
    for queue, state in sorted(await counters.counts_of(transaction)):
        if state in states and target.queue in {None, queue}:
            jobs += await _along(transaction, target, queue, state, known=jobs, is_open=is_open)
        if len(jobs) == MAX_BATCH:
            break
    return jobs


async def _along(
    transaction: Transaction, target: JobFilter, queue: str, state: int, *, known: list[_Meant], is_open: str
) -> list[_Meant]:
    condition, content = where_content(target)
    scope = scope_of(state)
    statement = SELECT_MEANT.format(scope=scope.condition, order=scope.order, condition=condition, is_open=is_open)
    jobs: list[_Meant] = []
    while len(known) + len(jobs) < MAX_BATCH:
        limit = MAX_BATCH - len(known) - len(jobs)
        own = {"line_queue": queue, "line_state": state, "known": array(job.id for job in jobs), "limit": limit}
        found = [row[0] for row in await transaction.rows(statement, {**content, **own})]
        locked = await _lock(transaction, found, {state})
        jobs += locked
        # Some may have moved on before they were locked; then there may be more of the others.
        if len(found) < limit or len(locked) == len(found):
            break
    return jobs


async def _lock(transaction: Transaction, ids: list[JobId], changeable: frozenset[int] | set[int]) -> list[_Meant]:
    if not ids:
        return []
    values = {"ids": array(sorted(ids)), "changeable": array(changeable)}
    return [_Meant(*row) for row in await transaction.rows(LOCK_MEANT, values)]
