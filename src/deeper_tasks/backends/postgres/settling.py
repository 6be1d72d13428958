"""Settling: writes the ends of attempts, each fenced by its token. One statement for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from deeper_tasks.backends.codes import CODES, STATES
from deeper_tasks.backends.hints import Hints, after_settle
from deeper_tasks.backends.postgres.codec import (
    MICROSECOND,
    array,
    duration,
    id_array,
    optional_array,
    optional_text_array,
    text_array,
    to_json,
)
from deeper_tasks.backends.postgres.database import Database, Transaction
from deeper_tasks.backends.postgres.refusals import RowLockedError
from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.settlement import End, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.transitions import COMPLETION, Change, after_settlement
from deeper_tasks.errors import BackendError

SETTLE = (
    "SELECT place, state FROM {schema}.settle("
    "%(now)s::timestamptz, %(ids)s::uuid[], %(tokens)s::text[], %(states)s::smallint[], "
    "%(states_if_cancelled)s::smallint[], %(are_uncounted)s::boolean[], %(delays)s::bigint[], "
    "%(run_times)s::bigint[], %(marks)s::smallint[], %(errors)s::text[], %(results)s::text[], "
    "%(results_omitted)s::text[])"
)
SELECT_LOCKED_ELSEWHERE = """
WITH free AS MATERIALIZED (
    SELECT job.id FROM job WHERE job.id = ANY (%(ids)s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
)
SELECT job.id::text
FROM job
WHERE job.id = ANY (%(ids)s::uuid[]) AND NOT EXISTS (SELECT FROM free WHERE free.id = job.id)
"""
SELECT_QUEUES = """
SELECT job.id::text, job.queue FROM job WHERE job.id = ANY (%(ids)s::uuid[])
"""

_COMPLETE, _COMPLETED = End.COMPLETE, str(CODES[State.COMPLETED])

_Key = tuple[JobId, ClaimToken]
"""The attempt that a settlement ends."""


async def settle(database: Database, settlements: Sequence[Settlement], *, now: str | None) -> list[Settled]:
    """
    Write the ends of attempts; see `Backend.settle`.

    Raises:
        BackendUnavailableError: another transaction has locked a row that the ends of `job_ids` change; all other jobs
            are settled.
    """
    keys = [(settlement.id, settlement.token) for settlement in settlements]
    # Of settlements by the same token the first counts.
    first = dict(zip(reversed(keys), reversed(settlements), strict=True))
    # Sorted: every transaction that changes several jobs locks them in the order of their ids.
    states = await _settle(database, [first[key] for key in sorted(first)], now=now)
    return [Settled(id=key[0], state=state) for key in keys if (state := STATES.get(states.get(key, 0))) is not None]


async def hints_after(database: Database, settlements: Sequence[Settlement], settled: Sequence[Settled]) -> Hints:
    """
    Return the hints of settlements that were written.

    Where jobs are pending again their queues are looked up, and if that fails they have no hint: it may be lost.
    """
    delays = {one.id: one.delay for one in settlements if one.end is not _COMPLETE}
    if not delays:
        return []
    pending = [one.id for one in settled if one.state is State.PENDING]
    queues: dict[JobId, str] = {}
    if pending:
        with suppress(BackendError):
            queues = await database.run(partial(_queues_of, ids=id_array(pending)))
    return after_settle(
        (queues.get(one.id, ""), one.state, delays[one.id])
        for one in settled
        if one.id in delays and (one.state is not State.PENDING or one.id in queues)
    )


async def _queues_of(transaction: Transaction, *, ids: str) -> dict[JobId, str]:
    return {row[0]: row[1] for row in await transaction.rows(SELECT_QUEUES, {"ids": ids})}


async def _settle(database: Database, sent: Sequence[Settlement], *, now: str | None) -> dict[_Key, int]:
    """
    Write the settlements, sorted by id and one for each token; return the codes of the states that they led to.

    Raises:
        RowLockedError: as `settle`; its `job_ids` are those of the jobs that were not settled.
    """
    if not sent:
        return {}
    try:
        rows = await database.call(SETTLE, values_of(sent, now=now), is_urgent=True)
    except RowLockedError as error:
        return await _settle_around(database, sent, error, now=now)
    return {(sent[place - 1].id, sent[place - 1].token): code for place, code in rows}


async def _settle_around(
    database: Database, sent: Sequence[Settlement], locked: RowLockedError, *, now: str | None
) -> dict[_Key, int]:
    """
    Settle the jobs that no lock of another transaction keeps back, and raise for the others.

    If no job's own row is locked, the lock is on a row that one of the ends changes besides, such as a unique key:
    each half of the jobs is settled by itself then.
    """
    if len(sent) == 1:
        locked.job_ids = (sent[0].id,)
        raise locked
    ids = id_array([one.id for one in sent])
    elsewhere = set(await database.run(partial(_locked_elsewhere, ids=ids)))
    middle = len(sent) // 2
    parts = [[one for one in sent if one.id not in elsewhere]] if elsewhere else [sent[:middle], sent[middle:]]
    states: dict[_Key, int] = {}
    kept_back: set[str] = set(elsewhere)
    for part in parts:
        try:
            states |= await _settle(database, part, now=now)
        except RowLockedError as error:
            kept_back |= set(error.job_ids)
    if kept_back:
        locked.job_ids = tuple(sorted(kept_back))
        raise locked
    return states


async def _locked_elsewhere(transaction: Transaction, *, ids: str) -> list[JobId]:
    return [row[0] for row in await transaction.rows(SELECT_LOCKED_ELSEWHERE, {"ids": ids})]


def values_of(sent: Sequence[Settlement], *, now: str | None) -> dict[str, str | None]:
    """Return the parameters of `SETTLE`."""
    changes = [after_settlement(one, is_cancel_requested=False) for one in sent]
    return {
        "now": now,
        "ids": id_array([one.id for one in sent]),
        "tokens": text_array([one.token for one in sent]),
        **_changes_of(sent, changes),
        "run_times": optional_array(_run_times(sent)),
        "errors": optional_text_array([None if one.error is None else to_json(one.error) for one in sent]),
        "results": optional_text_array([one.result for one in sent]),
        "results_omitted": optional_text_array([one.result_omitted for one in sent]),
    }


def _changes_of(sent: Sequence[Settlement], changes: Sequence[Change]) -> dict[str, str | None]:
    """Return the parameters that say what the settlements change, as they are and where a cancel was requested."""
    if changes.count(COMPLETION) == len(changes):
        states = "{" + ",".join([_COMPLETED] * len(changes)) + "}"
        return {
            "states": states,
            "states_if_cancelled": states,
            "are_uncounted": None,
            "delays": None,
            "marks": None,
        }
    if_cancelled = [after_settlement(one, is_cancel_requested=True) for one in sent]
    return {
        "states": array([_code(change) for change in changes]),
        "states_if_cancelled": array([_code(change) for change in if_cancelled]),
        "are_uncounted": optional_array([True if change.attempts_taken_back else None for change in changes]),
        "delays": optional_array(
            [duration(one.delay) if change.is_put_off else None for one, change in zip(sent, changes, strict=True)]
        ),
        "marks": optional_array([change.mark for change in changes]),
    }


def _code(change: Change) -> int:
    assert change.state is not None
    return CODES[change.state]


def _run_times(sent: Sequence[Settlement]) -> list[int | None]:
    """Return how long each handler ran, in microseconds; None if it was never started. A completion always ran."""
    return [
        one.ran_for // MICROSECOND if one.ran_for is not None else 0 if one.end is _COMPLETE else None for one in sent
    ]
