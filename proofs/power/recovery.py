"""The recovery: opens what a power cut left, as the next start of the application would, and says what is wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from deeper_tasks.backends.codes import STATES
from deeper_tasks.backends.protocol import MAX_BATCH, Node, QueueSettings
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import TERMINAL, State
from proofs.power.contents import digest

_LATER = timedelta(days=1)
_CLAIMANT = NodeId("the worker after the cut")

_SELECT_JOBS = "SELECT id, state FROM deeper_job"
_SELECT_MISCOUNTED = """
SELECT queue, state, sum(counted), sum(there) FROM (
    SELECT queue, state, count AS counted, 0 AS there FROM deeper_counter WHERE bucket = 0
    UNION ALL SELECT queue, state, 0, 1 FROM deeper_job
) GROUP BY queue, state HAVING sum(counted) <> sum(there)
"""
_SELECT_WRONG_KEYS = """
SELECT key FROM deeper_unique_key AS held LEFT JOIN deeper_job AS job ON job.id = held.holder
WHERE held.expires_at IS NULL AND (job.id IS NULL OR job.state >= 6 OR job.unique_key IS NOT held.key)
"""


class Expectation(Struct, frozen=True, kw_only=True):
    """
    The state that must be found after a cut.

    `commits` are the digests of the states that the store may be in, the newest
    last: each as one commit left it. Or it holds the one that was `under_way`, which
    had not been acknowledged. `promised`: the answers that callers had.
    """

    commits: tuple[str, ...]
    under_way: str | None
    promised: dict[JobId, State | None]


class Finding(Struct, frozen=True, kw_only=True):
    """The findings: the faults, and how many of the last finished commits are missing."""

    faults: tuple[str, ...]
    lost_commits: int = 0


async def examine(database: Path, expected: Expectation) -> Finding:
    """Recover a database, check it, and have all its jobs done."""
    store = SQLiteBackend(database)
    try:
        await store.open()
        lost, faults = _look(database, expected)
        # The second look sees what the recovered store makes of its jobs.
        if not faults:
            await _drain(store)
            faults = [f"after the drain: {fault}" for fault in (*_damage(database), *_unfinished(database))]
    except Exception as error:  # noqa: BLE001 - in a damaged store anything may happen, and is what we look for
        return Finding(faults=(f"{type(error).__name__}: {error}",))
    finally:
        await store.close()
    return Finding(faults=tuple(faults), lost_commits=lost)


def _look(database: Path, expected: Expectation) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(database)) as connection:
        found = digest(connection)
        jobs = {job: STATES[state] for job, state in connection.execute(_SELECT_JOBS)}
    faults = [*_damage(database), *_broken_promises(jobs, expected.promised)]
    if found == expected.under_way:
        return 0, faults
    if found not in expected.commits:
        return 0, [*faults, "the store is not as one of the commits allowed left it"]
    return expected.commits[::-1].index(found), faults


def _damage(database: Path) -> Iterator[str]:
    with closing(sqlite3.connect(database)) as connection:
        verdict = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        if verdict != ["ok"]:
            yield f"damaged: {verdict}"
        for queue, state, counted, there in connection.execute(_SELECT_MISCOUNTED):
            yield f"{counted} jobs of {queue!r} are counted as {STATES[state]}, and {there} are there"
        for (key,) in connection.execute(_SELECT_WRONG_KEYS):
            yield f"the unique key {key!r} is held by a job that has ended, is gone or has another key"


def _broken_promises(jobs: dict[str, State], promised: dict[JobId, State | None]) -> Iterator[str]:
    for job, state in promised.items():
        if job not in jobs:
            yield f"the job {job} is lost"
        elif state is not None and jobs[job] is not state:
            yield f"the job {job} had ended as {state} and is {jobs[job]} again"


def _unfinished(database: Path) -> Iterator[str]:
    with closing(sqlite3.connect(database)) as connection:
        for job, state in connection.execute(_SELECT_JOBS):
            if STATES[state] not in TERMINAL:
                yield f"the job {job} is {STATES[state]}"


async def _drain(store: SQLiteBackend) -> None:
    now = datetime.now(UTC) + _LATER
    for settings in await store.queues():
        await store.put_queue(QueueSettings(name=settings.name))
    for record in await store.nodes():
        while not (await store.rescue(record.node.id, beat=record.beat, now=now)).is_finished:
            pass
    while (await store.promote(now=now)).count:
        pass
    while await store.expire(now=now):
        pass
    queues = (await store.statistics(now=now)).queues
    node = Node(
        id=_CLAIMANT, name="node", host="host", scope="scope", pid=1, pid_started="1", queues=dict.fromkeys(queues, 1)
    )
    await store.register(node, now=now)
    for queue in queues:
        await _drain_queue(store, queue, now)


async def _drain_queue(store: SQLiteBackend, queue: str, now: datetime) -> None:
    token = ClaimToken(queue)
    while jobs := (
        await store.claim(queue, limit=MAX_BATCH, slots=MAX_BATCH, node=_CLAIMANT, token=token, now=now)
    ).jobs:
        await store.settle([Settlement(id=job.id, token=job.token, end=End.COMPLETE) for job in jobs], now=now)
        token = ClaimToken(f"{token}'")
