"""A row that somebody else's transaction holds keeps nobody from the others."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import Retention
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import (
    DAY,
    MINUTE,
    NOW,
    join,
    put,
    put_many,
    rescue_all,
    settle,
    state_of,
    states_of,
    take,
)


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url, timeout=timedelta(seconds=30)))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def held(database_url):
    """Return a context in which somebody's idle transaction holds the row of a job."""

    @asynccontextmanager
    async def held(job_id):
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT FROM deeper.job WHERE id = %s FOR UPDATE", [job_id])
            yield
            await other.rollback()

    return held


async def test_the_other_ends_of_a_settle_are_written_and_the_whole_may_be_sent_again(backend, held):
    node = await join(backend)
    ids = await put_many(backend, 5)
    jobs = await take(backend, node, limit=5)
    async with held(ids[2]):
        with pytest.raises(BackendUnavailableError, match="another transaction") as raised:
            await settle(backend, jobs)
        assert raised.value.job_ids == (ids[2],)
        assert await states_of(backend, ids) == [*[State.COMPLETED] * 2, State.RUNNING, *[State.COMPLETED] * 2]
    assert [settled.id for settled in await settle(backend, jobs)] == ids
    assert await state_of(backend, ids[2]) is State.COMPLETED


async def test_a_lock_on_a_row_that_an_end_changes_keeps_back_that_end_only(backend, database_url):
    node = await join(backend)
    keys = [None, None, "first", None, "second", None, None]
    ids = [await put(backend, unique=None if key is None else Unique(key=key)) for key in keys]
    jobs = await take(backend, node, limit=len(ids))
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM deeper.unique_key FOR UPDATE")
        async with asyncio.timeout(20):
            with pytest.raises(BackendUnavailableError, match="another transaction") as raised:
                await settle(backend, jobs)
        assert raised.value.job_ids == (ids[2], ids[4])
        states = await states_of(backend, ids)
        assert [job_id for job_id, state in zip(ids, states, strict=True) if state is State.RUNNING] == [ids[2], ids[4]]
        await other.rollback()
    assert [settled.id for settled in await settle(backend, jobs)] == ids
    assert set(await states_of(backend, ids)) == {State.COMPLETED}


async def test_a_claim_and_a_promotion_pass_it_by(backend, held):
    node = await join(backend)
    ids = await put_many(backend, 3)
    scheduled = await put_many(backend, 3, delay=MINUTE)
    async with held(ids[0]), held(scheduled[0]):
        assert (await backend.promote(now=NOW + MINUTE)).count == 2
        jobs = await take(backend, node, limit=10, now=NOW + MINUTE)
        assert [job.id for job in jobs] == [*ids[1:], *scheduled[1:]]


async def test_the_other_jobs_of_a_dead_worker_are_rescued_and_it_itself_when_it_is_free(backend, held):
    node = await join(backend)
    ids = await put_many(backend, 3)
    await take(backend, node, limit=3)
    async with held(ids[1]):
        assert [job.id for job in await rescue_all(backend, node)] == [ids[0], ids[2]]
        [record] = await backend.nodes()
        assert record.is_lost
    assert [job.id for job in await rescue_all(backend, node)] == [ids[1]]
    assert await backend.nodes() == []


async def test_a_worker_whose_beats_wait_for_it_is_not_taken_for_dead(backend, database_url):
    node = await join(backend)
    await put_many(backend, 1)
    [job] = await take(backend, node, limit=1)
    [record] = await backend.nodes()
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM deeper.node FOR UPDATE")
        rescue = await backend.rescue(node, beat=record.beat)
        assert (rescue.jobs, rescue.is_finished) == ((), True)
        await other.rollback()
    assert (await backend.beat(node)).held == {job.id: job.token}
    [record] = await backend.nodes()
    assert [rescued.id for rescued in (await backend.rescue(node, beat=record.beat)).jobs] == [job.id]


async def test_the_other_old_jobs_are_pruned(backend, held):
    node = await join(backend)
    ids = await put_many(backend, 3)
    await settle(backend, await take(backend, node, limit=3), End.COMPLETE)
    async with held(ids[0]):
        assert await backend.prune(Retention(), now=NOW + 30 * DAY) == 2
    assert await backend.prune(Retention(), now=NOW + 30 * DAY) == 1
