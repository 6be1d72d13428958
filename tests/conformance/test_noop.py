"""The no-op store takes everything that another would take, and keeps nothing."""

import asyncio
from contextlib import aclosing

import pytest

from deeper_tasks.backends.noop import NoopBackend
from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, Notification, QueueSettings, Retention, Topic
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import UnsupportedError
from deeper_tasks.testing.conformance.builders import DAY, NOW, join, new_job, new_node, take


@pytest.fixture
async def backend():
    backend: Backend = NoopBackend()
    await backend.open()
    yield backend
    await backend.close()


async def test_every_inserted_job_is_new_and_none_is_kept(backend):
    jobs = [new_job(unique=Unique(key="given:one")) for _ in range(2)]
    assert await backend.insert(jobs) == [Insertion(id=job.request_id, is_new=True) for job in jobs]
    assert await backend.insert(jobs) == [Insertion(id=job.request_id, is_new=True) for job in jobs]
    assert await backend.get(jobs[0].request_id) is None
    assert (await backend.find(JobQuery())).total == 0
    assert (await backend.statistics(now=NOW)).queues == {}


async def test_it_says_that_it_runs_nothing(backend):
    assert not backend.capabilities.runs_jobs
    assert not backend.capabilities.is_durable


async def test_it_takes_no_more_jobs_at_once_than_it_says(backend):
    jobs = [new_job() for _ in range(backend.capabilities.max_atomic_insert + 1)]
    with pytest.raises(UnsupportedError):
        await backend.insert(jobs)
    assert len(await backend.insert(jobs, atomic=False)) == len(jobs)


async def test_a_worker_finds_nothing_to_do(backend):
    node = await join(backend)
    await backend.insert([new_job()])
    assert await take(backend, node, limit=10) == ()
    beat = await backend.beat(node, busy=1)
    assert (beat.held, beat.cancels, beat.paused) == ({}, {}, frozenset())
    assert await backend.settle([]) == []
    assert await backend.report([]) == []
    await backend.deregister(node)
    assert await backend.nodes() == []


async def test_there_is_nothing_to_maintain(backend):
    await backend.insert([new_job()], now=NOW)
    assert (await backend.promote(now=NOW + DAY)).count == 0
    assert await backend.expire(now=NOW + DAY) == []
    assert await backend.prune(Retention(), now=NOW + 100 * DAY) == 0
    assert (await backend.rescue(new_node().id, beat=0)).is_finished
    assert await backend.migrate() == ()


async def test_a_schedule_is_accepted_and_never_fires(backend):
    schedule = Schedule(name="daily", recurrence=parse_recurrence("@daily"), spec=new_job().spec)
    entry = await backend.put_schedule(schedule, now=NOW)
    assert entry.next_run == schedule.recurrence.next_after(NOW)
    assert await backend.fire(plan_firing(entry, now=NOW + DAY), now=NOW + DAY) is None
    assert (await backend.schedules(now=NOW)).entries == ()
    assert not await backend.remove_schedule("daily")
    assert await backend.pause_schedule("daily", is_paused=True) is None
    assert await backend.run_schedule("daily", request_id=new_job().request_id) is None
    assert await backend.schedule_runs("daily") == []


async def test_there_is_nothing_to_control(backend):
    await backend.insert([new_job()])
    await backend.put_queue(QueueSettings(name="default", paused_at=NOW))
    assert await backend.queues() == []
    assert await backend.cancel(JobFilter(), reason="enough") == []
    assert await backend.retry(JobFilter()) == []
    assert await backend.reschedule(new_job().request_id, due=NOW) is None
    assert await backend.delete(JobFilter()) == []


async def test_a_listener_hears_nothing_until_the_backend_is_closed(backend):
    async def hear():
        async with aclosing(backend.listen()) as heard:
            return [notification async for notification in heard]

    listening = asyncio.create_task(hear())
    await backend.notify([Notification(topic=Topic.JOBS, subject="default")])
    done, _ = await asyncio.wait([listening], timeout=0.01)
    assert not done
    await backend.close()
    assert await asyncio.wait_for(listening, timeout=10) == []
