"""A claim does not go through what was claimed before, while somebody's long transaction keeps it."""

import math
from datetime import timedelta

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.postgres.claim_floor import ClaimFloor, PatternClaimFloor
from deeper_tasks.backends.protocol import MAX_BATCH, QueueSettings
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import End
from deeper_tasks.testing.conformance.builders import (
    MINUTE,
    NOW,
    SECOND,
    join,
    new_id,
    new_job,
    new_token,
    put,
    put_many,
    put_running,
    settle,
    take,
    take_all,
)

MANY = 10_500


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
async def old_snapshot(backend, database_url):
    """Another's transaction that may still look at every row that there was."""
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await other.execute("SELECT count(*) FROM deeper.job")
        yield


def watch_notes(kind, monkeypatch):
    noted = []
    note = kind.note

    def watch(self, jobs, *, passed_by, is_whole):
        noted.append((passed_by, is_whole))
        note(self, jobs, passed_by=passed_by, is_whole=is_whole)

    monkeypatch.setattr(kind, "note", watch)
    return noted


@pytest.fixture
async def passed_by(backend, monkeypatch):
    """How many dead rows each claim met, and whether it searched from the start."""
    return watch_notes(ClaimFloor, monkeypatch)


@pytest.fixture
async def pattern_passed_by(backend, monkeypatch):
    """The same of each claim by a pattern."""
    return watch_notes(PatternClaimFloor, monkeypatch)


async def claim_many(backend, node, pattern=None):
    for start in range(0, MANY, MAX_BATCH):
        if pattern is None:
            await put_many(backend, MAX_BATCH, now=NOW + timedelta(milliseconds=start))
        else:
            new = [new_job(queue=f"tenant-{number % 20:02}") for number in range(MAX_BATCH)]
            await backend.insert(new, now=NOW + timedelta(milliseconds=start))
    if pattern is not None:
        while await take(backend, node, queue=pattern, limit=MAX_BATCH, now=NOW + MINUTE):
            pass
        return None
    return await take_all(backend, node, now=NOW + MINUTE)


async def test_claims_begin_where_the_last_ones_ended_while_the_dead_rows_stay(backend, old_snapshot, passed_by):
    node = await join(backend)
    await claim_many(backend, node)
    fresh = [await put(backend, now=NOW + MINUTE) for _ in range(3)]
    passed_by.clear()
    jobs = [job.id for _ in range(3) for job in await take(backend, node, now=NOW + MINUTE)]
    assert jobs == fresh
    assert not any(is_whole for _, is_whole in passed_by)
    assert max(count for count, _ in passed_by) <= MAX_BATCH


async def test_without_a_long_transaction_every_claim_searches_from_the_start(backend, passed_by):
    node = await join(backend)
    for _ in range(3):
        await put_many(backend, 5)
        await take_all(backend, node)
    assert all(is_whole for _, is_whole in passed_by)


async def test_jobs_of_another_priority_are_found_all_the_same(backend, old_snapshot, passed_by):
    node = await join(backend)
    await claim_many(backend, node)
    normal = await put(backend, now=NOW + MINUTE)
    high = await put(backend, priority=-100, now=NOW)
    low = await put(backend, priority=100, now=NOW)
    jobs = await take(backend, node, limit=5, now=NOW + MINUTE)
    assert [job.id for job in jobs] == [high, normal, low]
    assert passed_by[-1][1] is False


async def test_a_job_given_back_is_found_by_the_next_search_from_the_start(backend, old_snapshot, passed_by):
    node = await join(backend)
    early = await put_running(backend, node, now=NOW - MINUTE)
    await claim_many(backend, node)
    await settle(backend, [early], End.RELEASE, now=NOW + MINUTE)
    assert await take(backend, node, now=NOW + MINUTE) == ()
    backend._claim_floors["default"]._searches._until = 0.0
    assert [job.id for job in await take(backend, node, now=NOW + MINUTE)] == [early.id]


TENANTS = QueuePattern(prefix="tenant-")


async def test_claims_by_a_pattern_begin_in_each_queue_where_the_last_ones_ended(
    backend, old_snapshot, pattern_passed_by
):
    node = await join(backend)
    await claim_many(backend, node, TENANTS)
    names = ["tenant-19", "tenant-03", "tenant-07"]
    fresh = {queue: [await put(backend, queue=queue, now=NOW + MINUTE) for _ in range(2)] for queue in names}
    high = await put(backend, queue="tenant-07", priority=-100, now=NOW)
    low = await put(backend, queue="tenant-03", priority=100, now=NOW)
    await backend.put_queue(QueueSettings(name="tenant-19", paused_at=NOW))
    backend._pattern_claim_floors[TENANTS]._searches._until = math.inf
    pattern_passed_by.clear()
    jobs = await take(backend, node, queue=TENANTS, limit=5, after="tenant-05", now=NOW + MINUTE)
    assert [job.id for job in jobs] == [
        high,
        fresh["tenant-03"][0],
        fresh["tenant-07"][0],
        fresh["tenant-03"][1],
        fresh["tenant-07"][1],
    ]
    assert [job.id for job in await take(backend, node, queue=TENANTS, limit=5, now=NOW + MINUTE)] == [low]
    assert await take(backend, node, queue=TENANTS, limit=5, now=NOW + MINUTE) == ()
    assert not any(is_whole for _, is_whole in pattern_passed_by)
    # In each queue those of the due time that was reached.
    assert max(count for count, _ in pattern_passed_by) <= 2 * MAX_BATCH


async def test_a_queue_that_is_new_to_a_pattern_is_found_by_the_next_search_from_the_start(
    backend, old_snapshot, pattern_passed_by
):
    node = await join(backend)
    await claim_many(backend, node, TENANTS)
    backend._pattern_claim_floors[TENANTS]._searches._until = math.inf
    new = await put(backend, queue="tenant-new")
    assert await take(backend, node, queue=TENANTS, now=NOW + MINUTE) == ()
    backend._pattern_claim_floors[TENANTS]._searches._until = 0.0
    assert [job.id for job in await take(backend, node, queue=TENANTS, now=NOW + MINUTE)] == [new]


def claimed(queue, priority, due):
    return ClaimedJob(
        id=new_id(),
        token=new_token(),
        task="shop.send",
        arguments="[[],{}]",
        queue=queue,
        priority=priority,
        attempt=1,
        max_attempts=5,
        inserted_at=due,
        scheduled_at=due,
        claimed_at=due,
        expires_at=None,
        has_started=True,
    )


def test_what_lies_beyond_floors_has_every_priority_once():
    claim_floor = PatternClaimFloor(monotonic=Clock())
    jobs = [claimed(queue, priority, NOW) for queue, priority in (("b", 0), ("b", 1), ("a", -100), ("c", 100))]
    claim_floor.note(jobs, passed_by=100_000, is_whole=True)
    whole = {
        "a": [(-100, NOW, -100), (-99, None, 100)],
        "b": [(-100, None, -1), (0, NOW, 0), (1, NOW, 1), (2, None, 100)],
        "c": [(-100, None, 99), (100, NOW, 100)],
    }
    assert claim_floor.queues(after="") == list(whole.items())
    assert [queue for queue, _ in claim_floor.queues(after="a")] == ["b", "c", "a"]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_after_a_search_that_met_many_dead_rows_the_next_ones_begin_further_on_for_ten_times_as_long():
    clock = Clock()
    claim_floor = ClaimFloor(monotonic=clock)
    claim_floor.note((), passed_by=100_000, is_whole=True)
    clock.now = 0.99
    assert claim_floor.floors() == {}
    clock.now = 1.01
    assert claim_floor.floors() is None


def test_after_a_search_that_met_few_every_claim_begins_at_the_start():
    claim_floor = ClaimFloor(monotonic=Clock())
    claim_floor.note((), passed_by=10_000, is_whole=True)
    assert claim_floor.floors() is None


def test_a_search_from_the_start_comes_at_least_every_ten_seconds():
    clock = Clock()
    claim_floor = ClaimFloor(monotonic=clock)
    claim_floor.note((), passed_by=50_000_000, is_whole=True)
    clock.now = 10 + SECOND.total_seconds() / 1000
    assert claim_floor.floors() is None
