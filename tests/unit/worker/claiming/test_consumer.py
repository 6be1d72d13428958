"""The consumer: keeps its slots full, claims ahead where jobs are short, and gives back what it does not start."""

import asyncio
import logging
from datetime import timedelta

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import QueueSettings
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendUnavailableError, NodeLostError
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.tasks import CurrentJob
from deeper_tasks.testing.conformance.builders import NOW, join, put_many, rescue_all, take
from deeper_tasks.worker.claiming.consumer import Consumer, ConsumerParts
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.settling.settler import MOST_UNSETTLED, Settler
from deeper_tasks.worker.store_access import StoreAccess

POLL = timedelta(seconds=1)
AT_ONCE = timedelta(0)


class Stage:
    """A consumer whose jobs run until the test ends them."""

    def __init__(self, backend, clock, slots, queue):
        self.backend = backend
        self.clock = clock
        self.settings = WorkerSettings(queues={"default": slots}, prefetch=timedelta(milliseconds=50))
        self.membership = Membership(backend=backend, settings=self.settings)
        self.told = []
        self.availability = Availability(bus=EventBus(), monotonic=clock.monotonic, random=clock.random)
        self.store = StoreAccess(backend, self.availability, clock)
        self.settler = Settler(
            self.store,
            on_settled=lambda answered: self.told.extend((job.id, state) for job, _, state in answered),
        )
        self.started = []
        self.finish = {}
        self.ran_for = timedelta(milliseconds=1)
        self.wakes = 0
        self.places = 1
        self.solitude = Solitude(
            running=lambda: list(self.consumer.running.values()),
            clock=clock,
            is_stopping=lambda: False,
            on_change=lambda: None,
        )
        self.consumer = Consumer(
            queue,
            ConsumerParts(
                settings=self.settings,
                store=self.store,
                membership=self.membership,
                settler=self.settler,
                run=self.run,
                fault=self.fault,
                base=BaseContext(),
                solitude=self.solitude,
                quarantine_places=lambda: self.places,
            ),
            slots=slots,
            running={},
            wake=self.wake,
        )
        self.settling = asyncio.create_task(self.settler.run())

    def wake(self):
        self.wakes += 1

    async def run(self, attempt):
        job = attempt.job
        self.started.append(job.id)
        finished = self.finish[job.id] = asyncio.Event()
        attempt.interrupt = finished.set
        await finished.wait()
        if attempt.stop is Stop.LOST:
            return None
        end = End.COMPLETE if attempt.stop is None else End.RELEASE
        return Settlement(id=job.id, token=job.token, end=end, ran_for=self.ran_for)

    def fault(self, attempt, error):
        job = attempt.job
        return Settlement(id=job.id, token=job.token, end=End.DISCARD if job.is_last_attempt else End.RETRY)

    async def end(self, job_id):
        self.finish[job_id].set()
        await self.clock.settle()
        assert job_id not in self.consumer.running
        await self.settler.wait_until_idle()

    async def state(self, job_id):
        return (await self.backend.get(job_id)).state


@pytest.fixture
async def make_stage(flaky, clock):
    stages = []

    async def make_stage(slots, *, queue="default"):
        stage = Stage(flaky, clock, slots, queue)
        stages.append(stage)
        await stage.membership.join()
        await clock.settle()
        return stage

    yield make_stage
    for stage in stages:
        stage.consumer.stop_running(Stop.LOST)
        await clock.settle()
        stage.settling.cancel()
        await asyncio.gather(stage.settling, return_exceptions=True)


@pytest.fixture
async def stage(make_stage):
    return await make_stage(2)


async def test_it_claims_as_many_as_there_are_free_slots(stage, flaky, clock):
    ids = await put_many(flaky, 5)
    pause = await stage.consumer.turn()
    await clock.settle()
    assert stage.started == ids[:2]
    assert flaky.called("claim")[0][1]["limit"] == 2
    assert flaky.called("claim")[0][1]["slots"] == 2
    assert pause == AT_ONCE
    assert await stage.state(ids[2]) is State.PENDING


async def test_it_claims_as_many_in_quarantine_as_there_are_places(stage, flaky, clock):
    node = await join(flaky)
    await put_many(flaky, 2)
    await take(flaky, node, limit=2)
    await rescue_all(flaky, node)
    [ordinary] = await put_many(flaky, 1)
    stage.places = 0
    await stage.consumer.turn()
    await clock.settle()
    assert stage.started == [ordinary]
    assert [call[1]["quarantined"] for call in flaky.called("claim")][-1] == 0


async def test_an_empty_queue_is_looked_at_again_after_the_poll_interval(stage):
    assert await stage.consumer.turn() == POLL


async def test_it_does_not_claim_while_all_slots_are_taken(stage, flaky, clock):
    await put_many(flaky, 5)
    await stage.consumer.turn()
    await clock.settle()
    assert await stage.consumer.turn() == POLL
    assert len(flaky.called("claim")) == 1


async def test_a_turn_that_asks_the_store_nothing_does_not_say_that_it_works(stage, flaky, clock):
    await put_many(flaky, 2)
    stage.availability.mark_failing(BackendUnavailableError("gone"), by=stage.consumer.name)
    await stage.consumer.turn()
    assert stage.availability.is_working
    await clock.settle()
    stage.availability.mark_failing(BackendUnavailableError("gone"), by=stage.consumer.name)
    await stage.consumer.turn()
    assert not stage.availability.is_working


async def test_it_asks_for_a_turn_when_a_slot_becomes_free_and_there_may_be_more(stage, flaky, clock):
    ids = await put_many(flaky, 5)
    await stage.consumer.turn()
    await clock.settle()
    stage.ran_for = timedelta(seconds=60)
    await stage.end(ids[0])
    assert stage.wakes == 1
    await stage.consumer.turn()
    await clock.settle()
    assert stage.started == ids[:3]


async def test_a_queue_found_empty_is_not_asked_again_until_a_hint_comes(stage, flaky, clock):
    [job_id] = await put_many(flaky, 1)
    await stage.consumer.turn()
    await clock.settle()
    await stage.end(job_id)
    assert stage.wakes == 0
    stage.consumer.hint()
    assert stage.wakes == 1


async def test_short_jobs_are_claimed_ahead_and_started_without_another_claim(stage, flaky, clock):
    ids = await put_many(flaky, 50)
    await stage.consumer.turn()
    await clock.settle()
    await stage.end(ids[0])
    await stage.consumer.turn()
    await clock.settle()
    (_, asked) = flaky.called("claim")[-1]
    assert (asked["limit"], asked["slots"]) == (101, 1)
    assert stage.consumer.holds == set(ids[1:])
    assert len(stage.consumer.running) == 2
    for job_id in ids[1:10]:
        await stage.end(job_id)
    assert len(flaky.called("claim")) == 2
    assert stage.started[:10] == ids[:10]


async def test_long_jobs_are_never_held_behind_one_another(stage, flaky, clock):
    ids = await put_many(flaky, 10)
    stage.ran_for = timedelta(seconds=2)
    await stage.consumer.turn()
    await clock.settle()
    await stage.end(ids[0])
    await stage.consumer.turn()
    await clock.settle()
    assert len(stage.consumer.holds) == 2


async def held(stage, flaky, clock, number=20):
    """Have the consumer hold jobs that have not started."""
    ids = await put_many(flaky, number)
    await stage.consumer.turn()
    await clock.settle()
    await stage.end(ids[0])
    await stage.consumer.turn()
    await clock.settle()
    assert len(stage.consumer.running) == 2
    waiting = sorted(stage.consumer.holds - set(stage.consumer.running))
    assert len(waiting) == number - 3
    return waiting


async def test_what_is_held_too_long_goes_back_without_using_an_attempt(stage, flaky, clock):
    waiting = await held(stage, flaky, clock)
    pause = await stage.consumer.turn()
    assert pause == POLL or pause <= timedelta(seconds=0.5)
    clock.now += 0.51
    assert await stage.consumer.turn() == POLL
    await stage.settler.wait_until_idle()
    for job_id in waiting:
        job = await flaky.get(job_id)
        assert (job.state, job.attempt) == (State.PENDING, 0)
    assert stage.consumer.holds == set(stage.consumer.running)


async def test_after_jobs_held_too_long_went_back_a_free_slot_has_it_claim_again_and_not_before(stage, flaky, clock):
    waiting = await held(stage, flaky, clock)
    clock.now += 0.51
    await stage.consumer.turn()
    await stage.settler.wait_until_idle()
    claims, wakes = len(flaky.called("claim")), stage.wakes
    stage.consumer.hint()
    await stage.consumer.turn()
    assert len(flaky.called("claim")) == claims
    await stage.end(next(iter(stage.consumer.running)))
    assert stage.wakes == wakes + 2
    await stage.consumer.turn()
    await clock.settle()
    assert waiting[0] in stage.consumer.running


async def test_a_free_slot_has_it_claim_again_after_jobs_went_back_from_an_empty_queue(stage, flaky, clock):
    await held(stage, flaky, clock)
    clock.now += 0.51
    await stage.consumer.turn()
    wakes = stage.wakes
    await stage.end(next(iter(stage.consumer.running)))
    assert stage.wakes == wakes + 1


async def test_what_is_held_goes_back_on_request(stage, flaky, clock):
    waiting = await held(stage, flaky, clock)
    stage.consumer.give_back_held_one(waiting[3])
    await stage.settler.wait_until_idle()
    assert await stage.state(waiting[3]) is State.PENDING
    assert waiting[3] not in stage.consumer.holds
    stage.consumer.give_back_held_one(waiting[3])
    stage.consumer.give_back_held()
    await stage.settler.wait_until_idle()
    assert {await stage.state(job_id) for job_id in waiting} == {State.PENDING}
    assert [state for _, state in stage.told].count(State.PENDING) == len(waiting)


async def test_what_belongs_to_others_is_dropped_and_not_settled(stage, flaky, clock):
    waiting = await held(stage, flaky, clock)
    stage.consumer.drop_held()
    await stage.settler.wait_until_idle()
    assert {await stage.state(job_id) for job_id in waiting} == {State.RUNNING}


async def test_a_draining_consumer_claims_nothing(stage, flaky):
    await put_many(flaky, 1)
    stage.consumer.is_draining = True
    assert await stage.consumer.turn() == POLL
    assert flaky.called("claim") == []


async def test_what_arrives_after_draining_began_goes_back(stage, flaky, clock):
    [job_id] = await put_many(flaky, 1)
    gate = flaky.hold("claim")
    turning = asyncio.create_task(stage.consumer.turn())
    await clock.settle()
    assert stage.consumer.is_busy
    stage.consumer.is_draining = True
    gate.end()
    await turning
    await stage.settler.wait_until_idle()
    job = await flaky.get(job_id)
    assert (job.state, job.attempt) == (State.PENDING, 0)
    assert not stage.consumer.is_busy
    assert stage.started == []


async def test_after_a_lost_answer_the_same_token_gives_the_same_jobs(stage, flaky, clock):
    ids = await put_many(flaky, 5)
    flaky.fail("claim", times=1, is_reply_lost=True)
    with pytest.raises(BackendUnavailableError):
        await stage.consumer.turn()
    lost = stage.consumer.claiming
    assert lost is not None
    await stage.consumer.turn()
    await clock.settle()
    tokens = [kwargs["token"] for _, kwargs in flaky.called("claim")]
    assert tokens == [lost, lost]
    assert stage.started == ids[:2]
    assert stage.consumer.claiming is None
    assert await stage.state(ids[2]) is State.PENDING


async def test_each_claim_has_a_token_of_its_own(stage, flaky):
    for _ in range(3):
        await stage.consumer.turn()
    assert len({kwargs["token"] for _, kwargs in flaky.called("claim")}) == 3


async def test_a_paused_queue_gives_nothing(stage, flaky):
    await put_many(flaky, 1)
    await flaky.put_queue(QueueSettings(name="default", paused_at=NOW))
    assert await stage.consumer.turn() == POLL
    assert stage.started == []


async def test_it_claims_no_more_while_the_store_cannot_take_the_ends(stage, flaky):
    await put_many(flaky, 1)
    stage.settler._waiting.extend([None] * (MOST_UNSETTLED + 1))
    assert await stage.consumer.turn() < POLL
    assert flaky.called("claim") == []
    stage.settler._waiting.clear()


async def test_a_claim_of_a_node_that_was_taken_for_dead_is_told(stage, flaky):
    await rescue_all(flaky.backend, stage.membership.node_id)
    with pytest.raises(NodeLostError):
        await stage.consumer.turn()


@pytest.mark.parametrize(
    "error", [RuntimeError("our own fault"), asyncio.CancelledError("by itself"), SystemExit(0), GeneratorExit()]
)
async def test_a_run_that_fails_by_a_fault_of_ours_frees_its_slot_and_uses_an_attempt(stage, flaky, clock, error):
    ids = await put_many(flaky, 2)
    [last] = await put_many(flaky, 1, max_attempts=1)

    async def fail(attempt):
        raise error

    stage.consumer._run = fail
    await stage.consumer.turn()
    await clock.settle()
    await stage.settler.wait_until_idle()
    assert stage.consumer.running == {}
    jobs = [await flaky.get(job_id) for job_id in ids]
    assert [(job.state, job.attempt) for job in jobs] == [(State.RETRYABLE, 1)] * 2
    await stage.consumer.turn()
    await clock.settle()
    await stage.settler.wait_until_idle()
    assert await stage.state(last) is State.DISCARDED


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
async def test_a_log_filter_that_ends_programs_does_not_keep_a_fault_from_using_an_attempt(stage, flaky, clock, error):
    [job_id] = await put_many(flaky, 1)

    async def fail(attempt):
        raise RuntimeError("our own fault")

    def leave(record):
        raise error

    stage.consumer._run = fail
    logger = logging.getLogger("deeper_tasks")
    logger.addFilter(leave)
    try:
        await stage.consumer.turn()
        await clock.settle()
        await stage.settler.wait_until_idle()
    finally:
        logger.removeFilter(leave)
    job = await flaky.get(job_id)
    assert (job.state, job.attempt) == (State.RETRYABLE, 1)


async def test_a_job_whose_code_was_started_is_not_given_back_because_the_store_is_gone(stage, flaky, clock):
    [job_id] = await put_many(flaky, 1)

    async def fail(attempt):
        attempt.context = CurrentJob(attempt.job, None, None)
        raise BackendUnavailableError("gone while the handler ran")

    stage.consumer._run = fail
    await stage.consumer.turn()
    await clock.settle()
    await stage.settler.wait_until_idle()
    job = await flaky.get(job_id)
    assert (job.state, job.attempt) == (State.RETRYABLE, 1)


async def test_a_run_that_fails_because_the_store_is_gone_gives_its_job_back(stage, flaky, clock, caplog):
    [job_id] = await put_many(flaky, 1)

    async def fail(attempt):
        raise BackendUnavailableError("gone")

    stage.consumer._run = fail
    await stage.consumer.turn()
    await clock.settle()
    await stage.settler.wait_until_idle()
    assert stage.consumer.running == {}
    job = await flaky.get(job_id)
    assert (job.state, job.attempt) == (State.SCHEDULED, 0)
    assert "could not be run" in caplog.text


async def test_a_lost_attempt_frees_its_slot_without_a_settlement(stage, flaky, clock):
    ids = await put_many(flaky, 2)
    await stage.consumer.turn()
    await clock.settle()
    stage.consumer.stop_running(Stop.LOST)
    await clock.settle()
    assert stage.consumer.running == {}
    assert stage.settler.unsettled == 0
    assert {await stage.state(job_id) for job_id in ids} == {State.RUNNING}


async def test_without_an_answer_to_its_beats_for_a_lease_it_starts_nothing_that_may_be_anothers_by_now(
    stage, flaky, clock
):
    running, *held = await put_many(flaky, 4)
    stage.consumer._pace.observe(0.001)
    stage.membership.confirm(stage.membership.now() - 3600)
    assert stage.membership.is_in_doubt
    assert await stage.consumer.turn() == POLL
    assert flaky.called("claim") == []
    stage.membership.confirm(stage.membership.now())
    await stage.consumer.turn()
    await clock.settle()
    before = list(stage.started)
    assert stage.consumer.holds > set(before)
    stage.membership.confirm(stage.membership.now() - 3600)
    await stage.end(running)
    assert stage.started == before
    assert await stage.consumer.turn() == POLL
    await stage.settler.wait_until_idle()
    assert stage.consumer.holds == set(before) - {running}
    waiting = [job for job in held if job not in before]
    assert {await stage.state(job) for job in waiting} == {State.PENDING}
    stage.membership.confirm(stage.membership.now())
    await stage.consumer.turn()
    await clock.settle()
    assert len(stage.started) > len(before)


# One job has the worker for itself.


async def test_nothing_is_claimed_while_a_job_waits_to_run_alone(stage, flaky):
    await put_many(flaky, 2)
    stage.solitude.is_wanted = True
    assert await stage.consumer.turn() == POLL
    assert flaky.called("claim") == []
    stage.solitude.is_wanted = False
    await stage.consumer.turn()
    assert len(stage.consumer.running) == 2


async def test_what_was_claimed_ahead_goes_back_and_does_not_start(stage, flaky, clock):
    ids = await put_many(flaky, 20)
    await stage.consumer.turn()
    await clock.settle()
    await stage.end(ids[0])
    await stage.consumer.turn()
    await clock.settle()
    assert len(stage.consumer.holds) > 2
    stage.solitude.is_wanted = True
    for job_id in stage.started[1:]:
        await stage.end(job_id)
    assert stage.consumer.running == {}
    await stage.consumer.turn()
    await stage.settler.wait_until_idle()
    assert stage.consumer.holds == set()
    assert await stage.state(ids[-1]) is State.PENDING


async def test_what_a_claim_brings_meanwhile_is_given_back_at_once(stage, flaky, clock):
    [job_id] = await put_many(flaky, 1)
    claim = flaky.claim

    async def claims_and_then_one_wants_to_be_alone(*arguments, **options):
        answer = await claim(*arguments, **options)
        stage.solitude.is_wanted = True
        return answer

    flaky.claim = claims_and_then_one_wants_to_be_alone
    await stage.consumer.turn()
    await stage.settler.wait_until_idle()
    assert (stage.started, await stage.state(job_id)) == ([], State.PENDING)


@pytest.mark.parametrize(("milliseconds", "told"), [(1, False), (49, False), (51, True)])
async def test_the_start_of_what_was_claimed_ahead_is_told_first_where_jobs_are_long(
    make_stage, flaky, clock, milliseconds, told
):
    stage = await make_stage(10)
    stage.ran_for = timedelta(milliseconds=milliseconds)
    ids = await put_many(flaky, 40)
    await stage.consumer.turn()
    await clock.settle()
    assert {attempt.must_report_start for attempt in stage.consumer.running.values()} == {False}
    await stage.end(ids[0])
    await stage.consumer.turn()
    await clock.settle()
    for job_id in ids[1:10]:
        await stage.end(job_id)
    ahead = [attempt for attempt in stage.consumer.running.values() if not attempt.job.has_started]
    assert {attempt.must_report_start for attempt in ahead} == {told}


# A pattern of queues.


async def test_the_queues_of_a_pattern_share_the_slots_and_are_served_in_turn(make_stage, flaky):
    stage = await make_stage(2, queue=QueuePattern(prefix="tenant-"))
    stage.ran_for = timedelta(minutes=1)
    for queue, number in (("tenant-a", 9), ("tenant-b", 2), ("tenant-c", 2)):
        await put_many(flaky, number, queue=queue)
    served = ""
    while len(served) < 8:
        await stage.consumer.turn()
        assert len(stage.consumer.running) == 2
        for attempt in list(stage.consumer.running.values()):
            served += attempt.job.queue[-1]
            await stage.clock.settle()
            await stage.end(attempt.job.id)
    assert served == "abcabcaa"


async def test_a_queue_that_is_new_is_seen_by_the_next_claim(make_stage, flaky):
    stage = await make_stage(2, queue=QueuePattern(prefix=""))
    assert await stage.consumer.turn() == POLL
    [job_id] = await put_many(flaky, 1, queue="never-seen-before")
    await stage.consumer.turn()
    assert list(stage.consumer.running) == [job_id]


async def test_a_pattern_costs_one_statement_a_poll_however_many_queues_there_are(make_stage, flaky):
    stage = await make_stage(2, queue=QueuePattern(prefix=""))
    for number in range(200):
        await flaky.put_queue(QueueSettings(name=f"queue-{number}"))
    before = len(flaky.calls)
    for _ in range(3):
        assert await stage.consumer.turn() == POLL
    assert [method for method, _ in flaky.calls[before:]] == ["claim"] * 3
