"""The quarantine: an attempt after a lost one runs apart, one at a time, and always runs."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from deeper_tasks import current_job
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.integrations.events import ArgumentsUnfit, JobQuarantined, JobStarted
from deeper_tasks.testing.conformance.builders import new_node, rescue_all
from deeper_tasks.worker.execution.quarantine import NoChildError, Quarantine
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.settling.attempt_end import Stored


class Nursery:
    """Makes children that run their attempt here, when the test says so."""

    def __init__(self):
        self.children = []
        self.refusal = None
        self.is_ready = asyncio.Event()
        self.is_ready.set()

    async def make(self, attempt, call):
        told = asyncio.Event()
        attempt.interrupt = told.set
        if self.refusal is not None:
            raise NoChildError(self.refusal)
        waits = [asyncio.ensure_future(each.wait()) for each in (self.is_ready, told)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        attempt.interrupt = None
        if told.is_set():
            return None
        child = Child()
        self.children.append(child)
        return child

    async def close(self):
        pass


class Child:
    def __init__(self):
        self.is_lost = False
        self.ends = asyncio.Event()
        self.closes = asyncio.Event()
        self.is_closed = False

    async def run(self, attempt, call):
        attempt.interrupt = self.ends.set
        await self.ends.wait()
        attempt.interrupt = None
        return call.returned("in a child", timedelta(seconds=1))

    async def close(self):
        await self.closes.wait()
        self.is_closed = True


@pytest.fixture
def nursery():
    return Nursery()


@pytest.fixture
def ward(bench, clock, nursery):
    """A bench whose runner has a quarantine of one slot."""
    bench.solitude = Solitude(
        running=lambda: list(bench.attempts.values()),
        clock=clock,
        is_stopping=lambda: False,
        on_change=lambda: None,
    )
    bench.freed = []
    bench.quarantine = Quarantine(
        slots=1,
        nursery=nursery,
        solitude=bench.solitude,
        bus=bench.bus,
        on_free=lambda: bench.freed.append(bench.quarantine.free),
    )
    return bench


@pytest.fixture
def noop(ward):
    @ward.task
    async def noop():
        return "in the worker"

    return noop


async def lost(ward, task, **fields):
    """Claim a job that was lost with its worker."""
    job = await ward.claim(task, **fields)
    return msgspec.structs.replace(job, is_quarantined=True)


async def begin(ward, clock, task, **fields):
    attempt, running = ward.start(await lost(ward, task, **fields))
    await clock.settle()
    return attempt, running


async def end(clock, child, running):
    child.ends.set()
    child.closes.set()
    settlement = await running
    await clock.settle()
    return settlement


async def test_a_job_that_was_not_lost_runs_in_the_worker(ward, noop, nursery):
    settlement = await ward.run(noop)
    assert settlement.result == '"in the worker"'
    assert nursery.children == []


async def test_a_lost_one_runs_in_a_child_and_that_is_told(ward, noop, nursery, clock):
    attempt, running = await begin(ward, clock, noop)
    settlement = await end(clock, nursery.children[0], running)
    assert (settlement.end, settlement.result) == (End.COMPLETE, '"in a child"')
    assert not settlement.is_process_lost
    assert nursery.children[0].is_closed
    [told] = ward.of_kind(JobQuarantined)
    assert (told.job_id, told.task, told.is_alone) == (attempt.job.id, "shop.noop", False)
    assert len(ward.of_kind(JobStarted)) == 1


async def test_a_task_without_quarantine_runs_in_the_worker(ward, nursery, clock):
    @ward.task(quarantine=False)
    async def trusted():
        return "in the worker"

    _, running = await begin(ward, clock, trusted)
    assert (await running).result == '"in the worker"'
    assert nursery.children == []


async def test_the_middleware_runs_in_the_child_and_not_in_the_worker(ward, noop, nursery, clock):
    seen = []

    async def around(job, proceed):
        seen.append(job)
        return await proceed()

    ward.middleware.append(around)
    _, running = await begin(ward, clock, noop)
    await end(clock, nursery.children[0], running)
    assert seen == []


async def test_the_arguments_are_read_in_the_child_and_not_in_the_worker(ward, noop, nursery, clock):
    _, running = await begin(ward, clock, "shop.noop", arguments="[[1],{}]")
    await end(clock, nursery.children[0], running)
    assert ward.of_kind(ArgumentsUnfit) == []
    nursery.refusal = "no memory"
    _, running = await begin(ward, clock, "shop.noop", arguments="[[1],{}]")
    settlement = await running
    assert (settlement.end, settlement.is_unfit) == (End.RELEASE, True)
    assert len(ward.of_kind(ArgumentsUnfit)) == 1


async def test_no_place_is_free_for_a_second_one_until_the_first_and_its_process_have_ended(ward, noop, nursery, clock):
    assert ward.quarantine.free == 1
    _, first = await begin(ward, clock, noop)
    assert ward.quarantine.free == 0
    job = await lost(ward, noop)
    released = await ward.start(job)[1]
    # Without a delay, so that it keeps its place among the jobs of its queue.
    assert (released.end, released.delay, released.ran_for) == (End.RELEASE, timedelta(0), None)
    nursery.children[0].ends.set()
    await first
    assert (ward.quarantine.free, ward.freed) == (0, [])
    nursery.children[0].closes.set()
    await clock.settle()
    assert (ward.quarantine.free, ward.freed) == (1, [1])
    _, second = ward.start(job)
    await clock.settle()
    assert (await end(clock, nursery.children[1], second)).end is End.COMPLETE


async def test_others_start_meanwhile_in_the_worker(ward, noop, nursery, clock):
    await begin(ward, clock, noop)
    assert (await ward.run(noop)).result == '"in the worker"'
    nursery.children[0].ends.set()
    nursery.children[0].closes.set()


async def test_a_child_that_dies_leaves_its_job_in_quarantine(ward, noop, nursery, clock):
    _, running = await begin(ward, clock, noop)
    nursery.children[0].is_lost = True
    assert (await end(clock, nursery.children[0], running)).is_process_lost


async def test_one_that_is_told_to_stop_while_its_child_is_made_is_given_back(ward, noop, nursery, clock):
    nursery.is_ready.clear()
    attempt, running = await begin(ward, clock, noop)
    attempt.tell_to_stop(Stop.SHUTDOWN)
    settlement = await running
    assert (settlement.end, settlement.delay, settlement.ran_for) == (End.RELEASE, timedelta(0), None)
    assert ward.of_kind(JobStarted) == []


async def test_one_that_is_lost_once_more_while_its_child_is_made_is_not_settled(ward, noop, nursery, clock):
    nursery.is_ready.clear()
    attempt, running = await begin(ward, clock, noop)
    attempt.tell_to_stop(Stop.LOST)
    assert await running is None


async def test_a_worker_that_dies_while_a_child_is_made_costs_the_job_no_attempt(ward, noop, nursery, clock):
    await ward.claim(noop)
    await rescue_all(ward.backend, ward.node.id)
    ward.node = new_node()
    await ward.open()
    job = await ward.claim_again()
    assert job.is_quarantined
    nursery.is_ready.clear()
    attempt, running = ward.start(job)
    await clock.settle()
    await rescue_all(ward.backend, ward.node.id)
    kept = await ward.backend.get(job.id)
    assert (kept.state, kept.attempt, len(kept.errors)) == (State.PENDING, 1, 1)
    # The dead one, as far as it lives: it calls the handler of what is no longer its own as little.
    nursery.is_ready.set()
    await clock.settle()
    nursery.children[0].closes.set()
    assert await running is None
    assert attempt.context is None


async def test_one_that_expired_while_its_child_was_made_does_not_start(ward, noop, nursery, clock):
    nursery.is_ready.clear()
    _, running = await begin(ward, clock, noop, expires_in=timedelta(minutes=1))
    clock.now += 61
    nursery.is_ready.set()
    await clock.settle()
    nursery.children[0].closes.set()
    settlement = await running
    assert (settlement.end, settlement.error.kind) == (End.FAIL, "Expired")


async def test_without_a_child_it_runs_alone_in_the_worker_and_says_why(ward, noop, nursery, clock, caplog):
    nursery.refusal = "its manager is nowhere"
    ended = asyncio.Event()

    @ward.task
    async def neighbour():
        await ended.wait()

    _, other = ward.start(await ward.claim(neighbour))
    await clock.settle()
    _, running = await begin(ward, clock, noop)
    await clock.advance(10)
    assert not running.done()
    ended.set()
    await other
    await clock.advance(1)
    settlement = await running
    assert settlement.result == '"in the worker"'
    [told] = ward.of_kind(JobQuarantined)
    assert told.is_alone
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "no process can be made for it: its manager is nowhere" in record.message
    assert not ward.solitude.is_wanted
    assert ward.freed == [1]


async def test_no_place_is_free_while_one_waits_for_the_worker_alone(ward, noop, nursery, clock):
    nursery.refusal = "no"
    ended = asyncio.Event()

    @ward.task
    async def neighbour():
        await ended.wait()

    ward.start(await ward.claim(neighbour))
    await clock.settle()
    await begin(ward, clock, noop)
    assert ward.quarantine.free == 0
    ended.set()
    await clock.advance(1)
    assert ward.quarantine.free == 1


async def test_one_that_cannot_run_alone_beside_a_stuck_one_is_put_off(ward, noop, nursery, clock):
    nursery.refusal = "no"
    ended = asyncio.Event()

    @ward.task
    async def stuck():
        await ended.wait()

    neighbour, _ = ward.start(await ward.claim(stuck))
    await clock.settle()
    neighbour.ignored = 1
    _, running = await begin(ward, clock, noop)
    await clock.advance(1)
    settlement = await running
    assert (settlement.end, settlement.delay) == (End.RELEASE, timedelta(seconds=30))
    ended.set()


async def test_what_waits_for_the_worker_alone_holds_no_place_of_the_others(ward, noop, nursery, clock):
    nursery.refusal = "no"
    ended = asyncio.Event()

    @ward.task
    async def neighbour():
        await ended.wait()

    ward.start(await ward.claim(neighbour))
    await clock.settle()
    _, first = await begin(ward, clock, noop)
    released = await ward.start(await lost(ward, noop))[1]
    assert released.end is End.RELEASE
    ended.set()
    await clock.advance(1)
    assert (await first).end is End.COMPLETE


async def test_a_lost_job_whose_task_is_unknown_now_takes_no_place_in_quarantine(ward, nursery):
    settlement = await ward.start(await lost(ward, "gone.away"))[1]
    assert (settlement.end, settlement.is_task_unknown, settlement.ran_for) == (End.RELEASE, True, None)
    assert nursery.children == []


async def test_a_transactional_task_runs_alone_in_the_worker_and_no_process_is_made(make_bench, tmp_path, nursery):
    store = SQLiteBackend(tmp_path / "tasks.db")
    await store.open()
    bench = await make_bench(store)
    solitude = Solitude(
        running=lambda: list(bench.attempts.values()),
        clock=bench.clock,
        is_stopping=lambda: False,
        on_change=lambda: None,
    )
    bench.quarantine = Quarantine(slots=1, nursery=nursery, solitude=solitude, bus=bench.bus, on_free=lambda: None)

    @bench.task(transactional=True)
    async def writes():
        current_job().connection.execute("CREATE TABLE note AS SELECT 1")
        return solitude.is_wanted

    _, running = bench.start(await lost(bench, writes))
    end = await asyncio.wait_for(running, 20)
    assert (type(end), end.settlement.end, end.settlement.result) == (Stored, End.COMPLETE, "true")
    assert not solitude.is_wanted
    assert nursery.children == []
    assert [told.is_alone for told in bench.of_kind(JobQuarantined)] == [True]
    await store.close()


async def test_a_job_that_starts_for_the_second_time_is_told_to_the_store_first(bench):
    @bench.task
    async def noop():
        pass

    job = await bench.claim(noop, slots=0)
    assert not job.has_started
    again = msgspec.structs.replace(job, attempt=2)
    await bench.start(again)[1]
    await bench.backend.settle([])
    assert (await bench.backend.get(job.id)).attempted_at is not None


async def test_a_job_that_starts_for_the_first_time_costs_no_write(bench):
    @bench.task
    async def noop():
        pass

    job = await bench.claim(noop, slots=0)
    await bench.start(job)[1]
    record = await bench.backend.get(job.id)
    assert (record.state, record.attempted_at) == (State.RUNNING, None)
