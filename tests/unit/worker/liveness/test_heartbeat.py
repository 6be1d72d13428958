"""The heartbeat: signs of life that no task can stop, and answers that reach the worker."""

import asyncio
import threading
from datetime import timedelta

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import JobFilter
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.testing.conformance.builders import node_record, put, rescue_all
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.liveness import heartbeat, loop_lag
from deeper_tasks.worker.liveness.heartbeat import Heartbeat
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.store_access import StoreAccess
from interruptions import interrupt


class Beating:
    def __init__(self, backend, interval):
        settings = WorkerSettings(queues={"default": 2}, heartbeat=timedelta(seconds=interval))
        self.backend = backend
        self.membership = Membership(backend=backend, settings=settings)
        self.beats = asyncio.Queue()
        self.lost = asyncio.Queue()
        self.jobs = 0
        self.availability = Availability(bus=EventBus())
        self.heartbeat = Heartbeat(
            StoreAccess(backend, self.availability, SystemClock()),
            membership=self.membership,
            settings=settings,
            answers=self,
        )

    def busy(self):
        return self.jobs

    def take(self, *beat):
        self.beats.put_nowait(beat)

    def note_lost(self, node):
        self.lost.put_nowait(node)

    async def count(self):
        return (await node_record(self.backend, self.membership.node_id)).beat

    async def next(self):
        return await asyncio.wait_for(self.beats.get(), 10)


@pytest.fixture
async def make_beating(flaky):
    made = []

    async def make_beating(interval=3600.0):
        beating = Beating(flaky, interval)
        made.append(beating)
        await beating.membership.join()
        beating.heartbeat.start()
        return beating

    yield make_beating
    for beating in made:
        await beating.heartbeat.stop()


async def test_it_beats_at_once_and_hands_the_answer_to_the_workers_loop(make_beating):
    beating = await make_beating()
    node, beat = await beating.next()
    assert node == beating.membership.node_id
    assert (beat.cancels, beat.held) == ({}, {})


async def test_only_an_answer_ends_the_doubt_whether_this_worker_was_taken_for_dead(make_beating, flaky, wait_until):
    beating = await make_beating()
    await beating.next()
    beating.membership.confirm(beating.membership.now() - 3600)
    assert beating.membership.is_in_doubt
    flaky.fail("beat")
    beating.heartbeat.beat_now()
    await wait_until(lambda: len(flaky.called("beat")) == 2)
    assert beating.membership.is_in_doubt
    flaky.restore()
    beating.heartbeat.beat_now()
    await beating.next()
    assert not beating.membership.is_in_doubt


async def test_it_beats_again_and_again(make_beating):
    beating = await make_beating(interval=0.001)
    for _ in range(5):
        await beating.next()


async def test_it_beats_at_once_when_asked_from_any_thread(make_beating):
    beating = await make_beating()
    await beating.next()
    beating.heartbeat.beat_now()
    await beating.next()
    thread = threading.Thread(target=beating.heartbeat.beat_now)
    thread.start()
    thread.join()
    await beating.next()
    assert await beating.count() == 3


async def test_a_task_that_blocks_the_loop_does_not_stop_it(make_beating, flaky):
    await make_beating(interval=0.001)
    beaten = threading.Event()
    seen = []
    beat = flaky.backend.beat

    async def count(*args, **kwargs):
        seen.append(1)
        if len(seen) >= 5:
            beaten.set()
        return await beat(*args, **kwargs)

    flaky.backend.beat = count
    # Blocks this very loop until the beats of the thread have come.
    assert beaten.wait(10)


async def test_it_tells_how_many_slots_are_busy(make_beating):
    beating = await make_beating()
    await beating.next()
    beating.jobs = 2
    beating.heartbeat.beat_now()
    await beating.next()
    assert (await node_record(beating.backend, beating.membership.node_id)).busy == 2


async def test_its_answer_tells_what_is_to_be_cancelled(make_beating, flaky):
    beating = await make_beating()
    await beating.next()
    job_id = await put(flaky)
    await flaky.claim("default", limit=1, slots=1, node=beating.membership.node_id, token="t")
    await flaky.cancel(JobFilter(ids=(job_id,)), reason="not wanted")
    beating.heartbeat.beat_now()
    _, beat = await beating.next()
    assert beat.cancels == {job_id: "not wanted"}
    assert beat.held == {job_id: "t"}


async def test_a_store_that_is_gone_does_not_end_it(make_beating, flaky):
    flaky.fail("beat")
    beating = await make_beating(interval=0.001)
    flaky.restore()
    await beating.next()


@pytest.mark.parametrize("error", [RuntimeError("damaged"), asyncio.CancelledError("of what it waited for")])
async def test_any_other_error_does_not_end_it_either(make_beating, flaky, wait_until, error):
    flaky.fail("beat", error=error)
    beating = await make_beating(interval=0.001)
    await wait_until(lambda: flaky.called("beat"))
    flaky.restore()
    await beating.next()


async def test_an_exit_in_the_store_does_not_end_its_thread(make_beating, flaky, wait_until, monkeypatch):
    monkeypatch.setattr(heartbeat, "_AFTER_A_FAULT", 0.0)
    ended = flaky.fail("beat", times=2, error=SystemExit(1))
    beating = await make_beating(interval=0.001)
    await wait_until(lambda: ended.is_over)
    await beating.next()


async def test_a_node_that_was_taken_for_dead_is_told_by_its_id(make_beating, flaky):
    beating = await make_beating()
    await beating.next()
    node = beating.membership.node_id
    await rescue_all(flaky.backend, node)
    beating.heartbeat.beat_now()
    assert await asyncio.wait_for(beating.lost.get(), 10) == node


async def test_after_a_new_membership_it_beats_for_the_new_node(make_beating, flaky):
    beating = await make_beating()
    before, _ = await beating.next()
    await beating.membership.join_anew()
    beating.heartbeat.beat_now()
    after, _ = await beating.next()
    assert before != after == beating.membership.node_id


async def test_stopping_ends_its_thread(flaky):
    beating = Beating(flaky, 3600)
    await beating.membership.join()
    beating.heartbeat.start()
    await beating.next()
    await beating.heartbeat.stop()
    assert not any(thread.name == "deeper-heartbeat" for thread in threading.enumerate())
    beating.heartbeat.beat_now()


async def test_stopping_right_after_starting_ends_its_thread(flaky):
    for _ in range(20):
        beating = Beating(flaky, 3600)
        await beating.membership.join()
        beating.heartbeat.start()
        await asyncio.wait_for(beating.heartbeat.stop(), 5)


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
async def test_an_exception_in_its_thread_does_not_end_it(make_beating, kind, monkeypatch):
    monkeypatch.setattr(heartbeat, "_AFTER_A_FAULT", 0)
    beating = await make_beating()
    await beating.next()
    interrupt("deeper-heartbeat", kind)
    beating.heartbeat.beat_now()
    await beating.next()
    beating.heartbeat.beat_now()
    await beating.next()


async def test_an_exception_in_its_thread_while_a_beat_is_under_way_ends_neither_beats_nor_pulse(
    make_beating, flaky, wait_until, monkeypatch
):
    monkeypatch.setattr(heartbeat, "_AFTER_A_FAULT", 0)
    monkeypatch.setattr(loop_lag, "_INTERVAL", 0.01)
    under_way, may_end, beat = threading.Event(), threading.Event(), flaky.backend.beat

    async def slowly(*args, **kwargs):
        under_way.set()
        while not may_end.is_set():  # noqa: ASYNC110 - it is set from another thread
            await asyncio.sleep(0.01)
        return await beat(*args, **kwargs)

    flaky.backend.beat = slowly
    beating = await make_beating()
    await wait_until(under_way.is_set)
    interrupt("deeper-heartbeat", KeyboardInterrupt)
    signs = beating.heartbeat.signs
    await wait_until(lambda: beating.heartbeat.signs > signs + 3)
    may_end.set()
    await beating.next()
    signs = beating.heartbeat.signs
    await wait_until(lambda: beating.heartbeat.signs > signs + 3)
