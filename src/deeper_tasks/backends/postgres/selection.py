"""Selection: locks the jobs that a filter matches, a batch at most, for a change of all of them."""

from __future__ import annotations

from typing import NamedTuple

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres import counters
from deeper_tasks.backends.postgres.codec import array
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.filters import where, where_content
from deeper_tasks.backends.postgres.index_ranges import scope_of
from deeper_tasks.backends.postgres.transitions import Transition
from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.transitions import Change

SELECT_NAMED: str = """
SELECT job.id::text FROM job WHERE {condition} AND job.state + 0 = ANY (%(changeable)s::smallint[]) LIMIT %(limit)s
"""
SELECT_MATCHING: str = """
SELECT found.id::text
FROM unnest(ARRAY[%(line_queue)s::text], ARRAY[%(line_state)s::smallint]) AS line (queue, state)
CROSS JOIN LATERAL (
    SELECT job.id FROM job
    WHERE {scope} AND {condition} AND {is_open} AND job.id <> ALL (%(known)s::uuid[])
    ORDER BY {order}
    LIMIT %(limit)s
) AS found
"""
# In the order of the ids, as they come sorted: two transactions that lock the same jobs never deadlock.
LOCK = """
SELECT
    job.id::text, job.queue, job.state, job.unique_key, job.task, job.attempt, job.original_max_attempts,
    job.cancel_requested
FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS given (id, place)
JOIN job ON job.id = given.id
WHERE job.state + 0 = ANY (%(changeable)s::smallint[])
ORDER BY given.place
FOR NO KEY UPDATE OF job
"""


class SelectedJob(NamedTuple):
    """A job that a filter matches, locked."""

    id: JobId
    queue: str
    state: int
    """The code of its state."""
    unique_key: str | None
    task: str
    attempt: int
    original_max_attempts: int
    cancel_requested: str | None

    def transition(self, change: Change, *, max_attempts: int | None = None) -> Transition:
        """Return a change of this job."""
        return Transition(self.id, self.queue, self.state, self.unique_key, change, max_attempts)


async def select(
    transaction: Transaction, target: JobFilter, changeable: frozenset[int], *, is_open: str = "TRUE"
) -> list[SelectedJob]:
    """
    Lock and return the first jobs that a filter matches and whose state is `changeable`, at most a batch.

    Jobs with given ids are found by these; others along the index ranges that hold them and few other jobs.
    `is_open` is a further condition, in SQL, for the jobs that are not given by id.
    """
    if target.ids is not None:
        condition, values = where(target)
        values |= {"changeable": array(changeable), "limit": MAX_BATCH}
        ids = [row[0] for row in await transaction.rows(SELECT_NAMED.format(condition=condition), values)]
        return await _lock(transaction, ids, changeable)
    states = changeable if target.states is None else changeable & {CODES[state] for state in target.states}
    jobs: list[SelectedJob] = []
    for queue, state in sorted(await counters.counts_of(transaction)):
        if state in states and target.queue in {None, queue}:
            jobs += await _select_of(transaction, target, queue, state, limit=MAX_BATCH - len(jobs), is_open=is_open)
        if len(jobs) == MAX_BATCH:
            break
    return jobs


async def _select_of(
    transaction: Transaction, target: JobFilter, queue: str, state: int, *, limit: int, is_open: str
) -> list[SelectedJob]:
    """Lock and return matching jobs of one queue in one state."""
    condition, content = where_content(target)
    scope = scope_of(state)
    statement = SELECT_MATCHING.format(scope=scope.condition, order=scope.order, condition=condition, is_open=is_open)
    jobs: list[SelectedJob] = []
    while len(jobs) < limit:
        missing = limit - len(jobs)
        own = {"line_queue": queue, "line_state": state, "known": array(job.id for job in jobs), "limit": missing}
        found = [row[0] for row in await transaction.rows(statement, {**content, **own})]
        locked = await _lock(transaction, found, {state})
        jobs += locked
        # Jobs may have moved on before they were locked; then there may be more of the others.
        if len(found) < missing or len(locked) == len(found):
            break
    return jobs


async def _lock(transaction: Transaction, ids: list[JobId], changeable: frozenset[int] | set[int]) -> list[SelectedJob]:
    if not ids:
        return []
    values = {"ids": array(sorted(ids)), "changeable": array(changeable)}
    return [SelectedJob(*row) for row in await transaction.rows(LOCK, values)]
