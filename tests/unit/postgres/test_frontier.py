"""A claim does not go through what was claimed before, while somebody's long transaction keeps it."""

from datetime import timedelta

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.postgres.frontier import Frontier
from deeper_tasks.backends.protocol import MAX_BATCH
from deeper_tasks.domain.settlement import End
from deeper_tasks.testing.conformance.scene import (
    MINUTE,
    NOW,
    SECOND,
    join,
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


@pytest.fixture
async def passed_by(backend, monkeypatch):
    """How many dead rows each claim met, and whether it searched from the start."""
    noted = []
    note = Frontier.note

    def watch(self, jobs, *, passed_by, is_whole):
        noted.append((passed_by, is_whole))
        note(self, jobs, passed_by=passed_by, is_whole=is_whole)

    monkeypatch.setattr(Frontier, "note", watch)
    return noted


async def claim_many(backend, node):
    for start in range(0, MANY, MAX_BATCH):
        await put_many(backend, MAX_BATCH, now=NOW + timedelta(milliseconds=start))
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
    backend._frontiers["default"]._until = 0.0
    assert [job.id for job in await take(backend, node, now=NOW + MINUTE)] == [early.id]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_after_a_search_that_met_many_dead_rows_the_next_ones_begin_further_on_for_ten_times_as_long():
    clock = Clock()
    frontier = Frontier(monotonic=clock)
    frontier.note((), passed_by=100_000, is_whole=True)
    clock.now = 0.99
    assert frontier.floors() == {}
    clock.now = 1.01
    assert frontier.floors() is None


def test_after_a_search_that_met_few_every_claim_begins_at_the_start():
    frontier = Frontier(monotonic=Clock())
    frontier.note((), passed_by=10_000, is_whole=True)
    assert frontier.floors() is None


def test_a_search_from_the_start_comes_at_least_every_ten_seconds():
    clock = Clock()
    frontier = Frontier(monotonic=clock)
    frontier.note((), passed_by=50_000_000, is_whole=True)
    clock.now = 10 + SECOND.total_seconds() / 1000
    assert frontier.floors() is None
