"""The memory store sends the hints of its own changes, without another call."""

import asyncio
from contextlib import aclosing

import pytest

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Notification, QueueSettings, Topic
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.job import JobSpec
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    HOUR,
    NOW,
    QUEUE,
    join,
    new_id,
    new_job,
    only,
    put,
    put_ended,
    put_running,
)

JOBS = Notification(topic=Topic.JOBS, subject=QUEUE)
SCHEDULES, CONTROL = Notification(topic=Topic.SCHEDULES), Notification(topic=Topic.CONTROL)
SCHEDULE = Schedule(
    name="hourly",
    recurrence=parse_recurrence("@hourly"),
    spec=JobSpec(task="shop.report", arguments="[[],{}]", queue=QUEUE),
)


@pytest.fixture
def store():
    return MemoryBackend()


async def hints_of(store, change):
    """Return the hints that a listener hears of a change."""
    async with aclosing(store.listen()) as hints:
        first = asyncio.ensure_future(anext(hints))
        await asyncio.sleep(0)
        await change
        last = Notification(topic=Topic.JOBS, subject="the last")
        await store.put_queue(QueueSettings(name=last.subject))
        heard = [await first]
        while heard[-1] != last:
            heard.append(await anext(hints))
    return heard[:-1]


async def test_an_insert(store):
    assert await hints_of(store, store.insert([new_job()], now=NOW)) == [JOBS]
    assert await hints_of(store, store.insert([new_job(delay=HOUR)], now=NOW)) == [SCHEDULES]
    assert await hints_of(store, store.insert([new_job(due=NOW - HOUR)], now=NOW)) == [JOBS]


async def test_the_same_insert_again_sends_none(store):
    job = new_job()
    await store.insert([job], now=NOW)
    assert await hints_of(store, store.insert([job], now=NOW)) == []


async def test_a_promotion(store):
    await put(store, delay=HOUR)
    assert await hints_of(store, store.promote(now=NOW)) == []
    assert await hints_of(store, store.promote(now=NOW + HOUR)) == [JOBS]


async def test_a_rescue(store):
    node = await join(store)
    await put_running(store, node)
    assert await hints_of(store, store.rescue(node, beat=0, now=NOW)) == [JOBS]


async def test_a_cancel_of_a_running_job(store):
    job = await put_running(store, await join(store))
    waiting = await put(store)
    assert await hints_of(store, store.cancel(only(waiting), reason="no", now=NOW)) == []
    assert await hints_of(store, store.cancel(only(job.id), reason="no", now=NOW)) == [CONTROL]


async def test_a_retry(store):
    job_id = await put_ended(store, State.FAILED)
    assert await hints_of(store, store.retry(only(job_id), now=NOW)) == [JOBS]


async def test_another_due_time(store):
    job_id = await put(store)
    assert await hints_of(store, store.reschedule(job_id, due=HOUR, now=NOW)) == [SCHEDULES]
    assert await hints_of(store, store.reschedule(job_id, due=None, now=NOW)) == [JOBS]


async def test_a_pause_of_a_queue(store):
    paused = Notification(topic=Topic.CONTROL, subject=QUEUE)
    assert await hints_of(store, store.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))) == [paused]
    assert await hints_of(store, store.put_queue(QueueSettings(name=QUEUE))) == [JOBS]


async def test_a_recurring_entry(store):
    assert await hints_of(store, store.put_schedule(SCHEDULE, now=NOW)) == [SCHEDULES]
    assert await hints_of(store, store.pause_schedule("hourly", is_paused=True, now=NOW)) == []
    assert await hints_of(store, store.pause_schedule("hourly", is_paused=False, now=NOW)) == [SCHEDULES]
    [entry] = (await store.schedules()).entries
    firing = plan_firing(entry, now=NOW + HOUR)
    assert await hints_of(store, store.fire(firing, now=NOW + HOUR)) == [JOBS]
    assert await hints_of(store, store.fire(firing, now=NOW + HOUR)) == []
    assert await hints_of(store, store.run_schedule("hourly", request_id=new_id(), now=NOW)) == [JOBS]
