"""The worker as a whole: it starts, is told things from outside, loses its node, and stops in order."""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks import current_job
from deeper_tasks.backends.protocol import JobFilter, Notification, QueueSettings, Topic
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendError, BackendUnavailableError
from deeper_tasks.integrations.events import (
    EventBus,
    JobCompleted,
    JobDiscarded,
    JobReleased,
    LoopStalled,
    NodeLost,
    QueuesUnserved,
    SettlementRefused,
    SlotFreed,
    StoreUnavailable,
    TaskIgnoresTimeout,
    WorkerStarted,
    WorkerStopped,
    WorkerStopping,
    WorkerStuck,
)
from deeper_tasks.tasks import TaskRegistry, make_task
from deeper_tasks.testing.conformance.builders import NOW, new_job, new_token, node_record, rescue_all
from deeper_tasks.worker import assembly, role, shutdown
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.execution import deadlines
from deeper_tasks.worker.hooks.hooks import Hooks
from deeper_tasks.worker.liveness import heartbeat_watch
from deeper_tasks.worker.liveness.heartbeat_watch import HeartbeatWatch
from deeper_tasks.worker.liveness.host import describe_node
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.worker import Worker
from simulated_work import block_for

CONTROL = [Notification(topic=Topic.CONTROL)]


class Shop:
    """A worker with tasks that a test can look into and end."""

    def __init__(self, backend, **settings):
        self.backend = backend
        self.bus = EventBus()
        self.events = []
        self.bus.subscribe(self.events.append)
        self.registry = TaskRegistry()
        self.settings = WorkerSettings(
            **{"queues": {"default": 2}, "poll_interval": timedelta(milliseconds=20), **settings}
        )
        self.begun, self.finished, self.cancelled = [], [], []
        self.may_finish = asyncio.Event()
        self.hooks = Hooks()
        self.worker = None
        self.running = None

        async def work():
            job = current_job()
            self.begun.append(job.id)
            try:
                await self.may_finish.wait()
            except asyncio.CancelledError:
                self.cancelled.append(job.id)
                raise
            self.finished.append(job.id)

        self.add(work)

    def add(self, function, **options):
        task = make_task(function, name=f"shop.{function.__name__}", **options)
        self.registry.add(task)

    async def enqueue(self, task="work", number=1, **fields):
        jobs = [new_job(task=f"shop.{task}", arguments="[[],{}]", **fields) for _ in range(number)]
        await self.backend.insert(jobs)
        await self.backend.notify([Notification(topic=Topic.JOBS, subject=fields.get("queue", "default"))])
        return [job.request_id for job in jobs]

    def start(self):
        self.worker = Worker(
            Collaborators(backend=self.backend, registry=self.registry, bus=self.bus, hooks=self.hooks), self.settings
        )
        self.running = asyncio.create_task(self.worker.run())
        return self.worker

    async def stop(self):
        self.worker.stop()
        await asyncio.wait_for(self.running, 20)

    async def states(self, ids):
        return [(await self.backend.get(job_id)).state for job_id in ids]

    def heard(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def open_shop(flaky):
    shops = []

    async def open_shop(**settings):
        shop = Shop(flaky, **settings)
        shops.append(shop)
        return shop

    yield open_shop
    for shop in shops:
        shop.may_finish.set()
        if shop.running is not None and not shop.running.done():
            shop.worker.stop()
            shop.worker.stop()
            await asyncio.wait_for(shop.running, 20)


@pytest.fixture
async def shop(open_shop):
    return await open_shop()


async def test_it_runs_what_is_there_and_what_comes(shop, wait_until):
    first = await shop.enqueue(number=2)
    shop.may_finish.set()
    shop.start()
    await wait_until(lambda: len(shop.finished) == 2)
    second = await shop.enqueue(number=3)
    await wait_until(lambda: len(shop.heard(JobCompleted)) == 5)
    assert await shop.states(first + second) == [State.COMPLETED] * 5
    await shop.stop()
    assert [type(event) for event in (shop.events[0], shop.events[-1])] == [WorkerStarted, WorkerStopped]


async def test_it_is_known_to_the_store_while_it_runs(shop, wait_until, flaky):
    worker = shop.start()
    await wait_until(lambda: flaky.called("beat"))
    record = await node_record(flaky, worker.node_id)
    assert record.node.queues == {"default": 2}
    await wait_until(lambda: worker.is_ready)
    await shop.stop()
    assert await flaky.nodes() == []
    assert not worker.is_ready


async def test_no_more_run_at_once_than_there_are_slots(shop, wait_until):
    await shop.enqueue(number=5)
    shop.start()
    await wait_until(lambda: len(shop.begun) == 2)
    assert len(shop.begun) == 2
    shop.may_finish.set()
    await wait_until(lambda: len(shop.finished) == 5)


async def test_each_queue_has_slots_of_its_own(open_shop, wait_until):
    shop = await open_shop(queues={"default": 1, "mail": 2})
    await shop.enqueue(number=3)
    await shop.enqueue(number=3, queue="mail")
    shop.start()
    await wait_until(lambda: len(shop.begun) == 3)
    queues = [(await shop.backend.get(job_id)).queue for job_id in shop.begun]
    assert sorted(queues) == ["default", "mail", "mail"]


async def test_a_worker_serves_queues_that_it_was_never_told_of(open_shop, wait_until):
    shop = await open_shop(queues={"*": 2, "tenant-*": 1, "tenant-vip": 1}, poll_interval=timedelta(hours=1))
    shop.start()
    await wait_until(lambda: shop.worker.is_ready)
    # Only the hint of a queue's job wakes who serves it.
    for queue in ("emails", "tenant-7", "tenant-vip"):
        await shop.enqueue(number=3, queue=queue)
    await wait_until(lambda: len(shop.begun) == 4)
    queues = [(await shop.backend.get(job_id)).queue for job_id in shop.begun]
    assert sorted(queues) == ["emails", "emails", "tenant-7", "tenant-vip"]
    shop.may_finish.set()
    await wait_until(lambda: len(shop.heard(JobCompleted)) == 9)


async def test_a_new_queue_is_seen_by_polling_alone(open_shop, wait_until, flaky):
    shop = await open_shop(queues={"tenant-*": 1})
    shop.start()
    await wait_until(lambda: shop.worker.is_ready)
    await flaky.insert([new_job(task="shop.work", arguments="[[],{}]", queue="tenant-new")])
    await wait_until(lambda: shop.begun)


async def test_a_running_job_is_cancelled_from_outside(shop, wait_until, flaky):
    [job_id] = await shop.enqueue()
    shop.start()
    await wait_until(lambda: shop.begun)
    await flaky.cancel(JobFilter(ids=(job_id,)), reason="not wanted")
    await flaky.notify(CONTROL)
    await wait_until(lambda: shop.cancelled == [job_id])
    await shop.stop()
    job = await flaky.get(job_id)
    assert (job.state, job.errors[-1].message) == (State.CANCELLED, "not wanted")


async def test_a_cancel_reaches_a_worker_that_is_deaf(open_shop, wait_until, flaky):
    shop = await open_shop(heartbeat=timedelta(milliseconds=10), lease=timedelta(seconds=20))
    [job_id] = await shop.enqueue()
    shop.start()
    await wait_until(lambda: shop.begun)
    await flaky.cancel(JobFilter(ids=(job_id,)), reason="not wanted")
    await wait_until(lambda: shop.cancelled == [job_id])


async def test_a_pause_gives_back_what_has_not_started(shop, wait_until, flaky):
    shop.start()
    await wait_until(lambda: flaky.called("claim"))
    ids = await shop.enqueue(number=4)
    await wait_until(lambda: len(shop.begun) == 2)
    consumer = shop.worker.parts.consumers["default"]
    held = (await flaky.backend.claim("default", limit=2, slots=0, node=shop.worker.node_id, token=new_token())).jobs
    consumer._held.extend((job, consumer._clock.monotonic()) for job in held)
    await flaky.put_queue(QueueSettings(name="default", paused_at=NOW))
    await flaky.notify(CONTROL)
    await wait_until(lambda: len(shop.heard(JobReleased)) == 2)
    assert await shop.states(ids[2:]) == [State.PENDING] * 2
    assert await shop.states(ids[:2]) == [State.RUNNING] * 2
    await flaky.put_queue(QueueSettings(name="default"))


async def test_a_pause_within_a_pattern_gives_back_what_is_of_that_queue(open_shop, wait_until, flaky):
    shop = await open_shop(queues={"*": 1})
    shop.start()
    await wait_until(lambda: flaky.called("claim"))
    await shop.enqueue()
    await wait_until(lambda: shop.begun)
    [slow, other] = [(await shop.enqueue(queue=queue))[0] for queue in ("slow", "other")]
    consumer, node = shop.worker.parts.consumers["*"], shop.worker.node_id
    pattern = QueuePattern(prefix="")
    held = (await flaky.backend.claim(pattern, limit=2, slots=0, node=node, token=new_token())).jobs
    consumer._held.extend((job, consumer._clock.monotonic()) for job in held)
    await flaky.put_queue(QueueSettings(name="slow", paused_at=NOW))
    await flaky.notify(CONTROL)
    await wait_until(lambda: shop.heard(JobReleased))
    assert await shop.states([slow, other]) == [State.PENDING, State.RUNNING]
    shop.may_finish.set()
    await wait_until(lambda: len(shop.heard(JobCompleted)) == 2)
    assert await shop.states([slow, other]) == [State.PENDING, State.COMPLETED]


# Queues that no worker serves.


@pytest.fixture
def add_mails():
    async def mails():
        pass

    def add_mails(shop):
        shop.add(mails, queue="emails")

    return add_mails


async def test_a_worker_names_the_queues_of_its_own_tasks_that_no_worker_serves(open_shop, wait_until, add_mails):
    shop = await open_shop(queues={"reports": 3}, default_queue="mails")
    add_mails(shop)
    worker = shop.start()
    await wait_until(lambda: shop.heard(QueuesUnserved))
    unserved = {"emails": ("shop.mails",), "mails": ("shop.work",)}
    assert shop.heard(QueuesUnserved) == [QueuesUnserved(node=worker.node_id, queues={"reports": 3}, unserved=unserved)]


@pytest.mark.parametrize("queues", [{"default": 1, "emails": 1}, {"*": 1}, {"default": 1, "em*": 1}])
async def test_a_worker_that_serves_all_its_tasks_asks_the_store_for_no_other(
    open_shop, wait_until, flaky, queues, add_mails
):
    shop = await open_shop(queues=queues)
    add_mails(shop)
    shop.start()
    await wait_until(lambda: len(flaky.called("claim")) > 2 * len(queues))
    await shop.stop()
    assert not flaky.called("statistics")
    assert not shop.heard(QueuesUnserved)


async def test_a_queue_that_another_live_worker_serves_by_a_pattern_is_not_named(
    open_shop, wait_until, flaky, add_mails
):
    other = msgspec.structs.replace(describe_node("other", {"e*": 1}), host="elsewhere")
    await flaky.register(other)
    shop = await open_shop()
    add_mails(shop)
    shop.start()
    await wait_until(lambda: len(flaky.called("claim")) > 2 and flaky.called("statistics"))
    await shop.stop()
    assert not shop.heard(QueuesUnserved)


async def test_a_queue_that_only_a_dead_worker_serves_is_named(open_shop, wait_until, flaky, add_mails):
    other = msgspec.structs.replace(describe_node("other", {"emails": 1}), host="elsewhere")
    await flaky.register(other, now=datetime.now(UTC) - timedelta(minutes=1))
    shop = await open_shop()
    add_mails(shop)
    shop.start()
    await wait_until(lambda: shop.heard(QueuesUnserved))


async def test_what_the_store_thinks_runs_here_and_does_not_is_given_back(shop, wait_until, flaky):
    worker = shop.start()
    await wait_until(lambda: flaky.called("beat"))
    await flaky.backend.insert([new_job(task="shop.work", arguments="[[],{}]", queue="other")])
    [stray] = (await flaky.backend.claim("other", limit=1, slots=1, node=worker.node_id, token=new_token())).jobs
    await flaky.notify(CONTROL)

    async def is_back():
        return (await flaky.get(stray.id)).state is State.PENDING

    await wait_until(is_back)
    assert (await flaky.get(stray.id)).attempt == 0


async def test_a_job_whose_end_waits_to_be_written_is_not_given_back(shop, wait_until, flaky, monkeypatch):
    [job_id] = await shop.enqueue()
    settle, held = flaky.settle, []

    async def settle_but_once(settlements, **options):
        if not held:
            held.append(job_id)
            error = BackendUnavailableError("another transaction holds its row")
            error.job_ids = (job_id,)
            raise error
        return await settle(settlements, **options)

    monkeypatch.setattr(flaky, "settle", settle_but_once)
    worker = shop.start()
    await wait_until(lambda: shop.begun)
    shop.may_finish.set()
    # Set aside: the row is free at once, the end is tried again later. Meanwhile the store thinks that the job runs.
    await wait_until(lambda: held)
    worker.parts.beat_handler.give_back_strays((await flaky.beat(worker.node_id)).held)
    await wait_until(lambda: shop.heard(JobCompleted))
    job = await flaky.get(job_id)
    assert (job.state, job.attempt, shop.begun) == (State.COMPLETED, 1, [job_id])


# A node that was taken for dead.


async def test_a_worker_taken_for_dead_stops_what_it_runs_and_starts_anew_under_another_id(shop, wait_until, flaky):
    [job_id] = await shop.enqueue()
    worker = shop.start()
    await wait_until(lambda: shop.begun)
    before = worker.node_id
    await rescue_all(flaky.backend, before)
    await flaky.notify(CONTROL)
    await wait_until(lambda: shop.cancelled == [job_id])
    await wait_until(lambda: worker.node_id != before)
    # It is pending again, and this very worker may have it, as another attempt.
    await wait_until(lambda: len(shop.begun) == 2)
    shop.may_finish.set()
    await wait_until(lambda: shop.heard(JobCompleted))
    job = await flaky.get(job_id)
    assert (job.state, job.attempt) == (State.COMPLETED, 2)
    assert [error.kind for error in job.errors] == ["WorkerLost"]
    assert [event.node for event in shop.heard(NodeLost)] == [before]


@pytest.mark.parametrize("error", [BackendError("no constraint matches"), RuntimeError("damaged")])
async def test_a_worker_that_may_not_register_anew_tries_until_it_may_and_is_not_ready(
    shop, wait_until, flaky, caplog, error
):
    caplog.set_level(logging.INFO, "deeper_tasks")
    worker = shop.start()
    await wait_until(lambda: worker.is_ready)
    before = worker.node_id
    refusal = flaky.fail("register", error=error)
    await rescue_all(flaky.backend, before)
    shop.may_finish.set()
    [job_id] = await shop.enqueue()
    await wait_until(lambda: refusal.hits >= 3)
    # It goes on to beat as the node that is lost, not as one that the store has never seen.
    assert (worker.is_ready, worker.node_id, shop.begun) == (False, before, [])
    refusal.end()
    await wait_until(lambda: shop.finished == [job_id] and worker.is_ready)
    assert [event.node for event in shop.heard(NodeLost)] == [before]
    told = [record for record in caplog.records if "registration of this worker" in record.getMessage()]
    assert [(record.levelname, record.exc_info and record.exc_info[1]) for record in told] == [
        ("ERROR", error),
        ("INFO", None),
    ]


async def test_a_registration_that_is_cancelled_by_the_store_is_begun_again(shop, wait_until, flaky):
    worker = shop.start()
    await wait_until(lambda: worker.is_ready)
    before = worker.node_id
    cancelled = flaky.fail("register", times=1, error=asyncio.CancelledError("of what it waited for"))
    await rescue_all(flaky.backend, before)
    await wait_until(lambda: cancelled.hits)

    async def is_known_again():
        await flaky.notify(CONTROL)
        return worker.node_id != before and worker.is_ready

    await wait_until(is_known_again)


async def test_a_job_that_cannot_be_stopped_does_not_keep_a_lost_worker_out(shop, wait_until, flaky, monkeypatch):
    await shop.enqueue()
    worker = shop.start()
    await wait_until(lambda: shop.begun and worker.is_ready)
    before = worker.node_id

    def fail(*_):
        raise OSError("its process is gone")

    with monkeypatch.context() as patch:
        patch.setattr(worker.parts.consumers["default"], "stop_running", fail)
        await rescue_all(flaky.backend, before)
        await flaky.notify(CONTROL)
        await wait_until(lambda: worker.node_id != before)
    await wait_until(lambda: worker.is_ready)


async def test_a_worker_whose_beats_are_refused_for_a_lease_claims_nothing_and_is_not_ready(
    open_shop, wait_until, flaky
):
    shop = await open_shop(heartbeat=timedelta(milliseconds=20), lease=timedelta(milliseconds=200))
    worker = shop.start()
    await wait_until(lambda: worker.is_ready)
    refusal = flaky.fail("beat", error=RuntimeError("damaged"))
    await wait_until(lambda: not worker.is_ready)
    refusal.end()
    await wait_until(lambda: worker.is_ready)


async def test_a_worker_whose_part_ends_again_and_again_ends_and_says_why(shop, wait_until, monkeypatch):
    monkeypatch.setattr(role, "_LONGEST_BACKOFF", 0.0)
    worker = shop.start()
    await wait_until(lambda: worker.is_ready)

    async def turn():
        raise SystemExit(3)

    worker.parts.consumers["default"].turn = turn
    worker.parts.loops["consumer of default"].wake()
    await asyncio.wait_for(shop.running, 20)
    reason = "the consumer of default has ended 12 times in a row, by SystemExit"
    assert worker.is_stuck
    assert worker.stuck_because == reason
    assert [event.reason for event in shop.heard(WorkerStuck)] == [reason]


async def test_a_worker_whose_heartbeat_is_at_work_no_more_stops_what_it_runs_and_ends(shop, wait_until, monkeypatch):
    monkeypatch.setattr(heartbeat_watch, "_INTERVAL", 0.001)
    monkeypatch.setattr(HeartbeatWatch, "is_silent", lambda _: bool(shop.begun))
    worker = shop.start()
    [job_id] = await shop.enqueue()
    await wait_until(lambda: shop.cancelled == [job_id])
    await asyncio.wait_for(shop.running, 20)
    assert worker.is_stuck
    assert [event.reason for event in shop.heard(WorkerStuck)] == ["the thread of its heartbeat gives no sign of life"]
    # Left to be rescued.
    assert await shop.states([job_id]) == [State.RUNNING]


async def test_the_end_of_a_job_that_was_rescued_meanwhile_is_refused_and_told(shop, wait_until, flaky):
    [job_id] = await shop.enqueue()
    gate = flaky.hold("beat")
    worker = shop.start()
    await wait_until(lambda: shop.begun)
    await flaky.put_queue(QueueSettings(name="default", paused_at=NOW))
    await rescue_all(flaky.backend, worker.node_id)
    shop.may_finish.set()
    await wait_until(lambda: shop.heard(SettlementRefused) or shop.heard(NodeLost))
    assert await shop.states([job_id]) == [State.PENDING]
    gate.end()
    await flaky.put_queue(QueueSettings(name="default"))


# A store that is gone.


async def test_it_starts_when_the_store_is_there_at_last(shop, wait_until, flaky):
    flaky.fail("register")
    shop.start()
    await wait_until(lambda: len(flaky.called("register")) >= 2)
    assert shop.heard(StoreUnavailable)
    flaky.restore()
    await wait_until(lambda: shop.heard(WorkerStarted))


async def test_it_can_be_stopped_while_it_waits_for_the_store(shop, wait_until, flaky):
    flaky.fail("register", "claim", "beat", "nodes", "promote", "schedules", "deregister")
    shop.start()
    await wait_until(lambda: flaky.called("register"))
    await shop.stop()


async def test_it_stops_although_the_store_is_gone(shop, wait_until, flaky, monkeypatch):
    monkeypatch.setattr(shutdown, "LAST_WORDS", 0.05)
    await shop.enqueue()
    shop.start()
    await wait_until(lambda: shop.begun)
    flaky.fail("settle", "claim", "beat", "nodes", "promote", "schedules", "deregister", "expire", "prune")
    shop.may_finish.set()
    await wait_until(lambda: shop.finished)
    await shop.stop()


async def test_a_claim_that_was_lost_does_not_hold_up_the_stop(open_shop, wait_until, flaky):
    shop = await open_shop(shutdown_grace=timedelta(hours=1))
    shop.start()
    await wait_until(lambda: flaky.called("claim"))
    flaky.fail("claim")
    shop.worker.parts.consumers["default"].hint()
    await wait_until(lambda: shop.worker.parts.consumers["default"].claiming is not None)
    await shop.stop()


# Shutdown.


async def test_a_stop_lets_running_jobs_finish_and_starts_no_more(shop, wait_until):
    ids = await shop.enqueue(number=4)
    worker = shop.start()
    await wait_until(lambda: len(shop.begun) == 2)
    worker.stop()
    await asyncio.sleep(0)
    assert not worker.is_ready
    shop.may_finish.set()
    await asyncio.wait_for(shop.running, 20)
    assert await shop.states(ids) == [State.COMPLETED, State.COMPLETED, State.PENDING, State.PENDING]
    assert [(await shop.backend.get(job_id)).attempt for job_id in ids[2:]] == [0, 0]


async def test_an_attempt_that_is_decided_by_code_which_exits_is_used_up_and_the_worker_goes_on(shop, wait_until):
    runs = []

    def leave(*_):
        raise SystemExit(4)

    def fail():
        runs.append(1)
        raise ValueError("boom")

    shop.add(fail, retry=leave)
    shop.bus.subscribe(leave, is_wanted=leave)
    shop.may_finish.set()
    [failing] = await shop.enqueue("fail", max_attempts=1)
    shop.start()
    await wait_until(lambda: shop.heard(JobDiscarded))
    [later] = await shop.enqueue()
    await wait_until(lambda: later in shop.finished)
    assert (await shop.backend.get(failing)).state is State.DISCARDED
    assert runs == [1]


async def test_after_the_grace_jobs_are_given_back_without_using_an_attempt(open_shop, wait_until):
    shop = await open_shop(shutdown_grace=timedelta(milliseconds=20))
    ids = await shop.enqueue(number=2, max_attempts=1)
    shop.start()
    await wait_until(lambda: len(shop.begun) == 2)
    await shop.stop()
    assert sorted(shop.cancelled) == sorted(ids)
    for job_id in ids:
        job = await shop.backend.get(job_id)
        assert (job.state, job.attempt, job.errors) == (State.PENDING, 0, ())


async def test_a_second_stop_gives_back_at_once(open_shop, wait_until):
    shop = await open_shop(shutdown_grace=timedelta(hours=1))
    [job_id] = await shop.enqueue()
    worker = shop.start()
    await wait_until(lambda: shop.begun)
    worker.stop()
    worker.stop()
    await asyncio.wait_for(shop.running, 20)
    assert await shop.states([job_id]) == [State.PENDING]


async def test_what_was_being_claimed_when_the_stop_came_is_given_back(shop, wait_until, flaky):
    shop.start()
    await wait_until(lambda: flaky.called("claim"))
    gate = flaky.hold("claim")
    ids = await shop.enqueue(number=2)

    async def is_claimed():
        return State.RUNNING in await shop.states(ids)

    await wait_until(is_claimed)
    shop.worker.stop()
    await asyncio.sleep(0)
    gate.end()
    await asyncio.wait_for(shop.running, 20)
    assert await shop.states(ids) == [State.PENDING] * 2
    assert shop.begun == []
    assert await flaky.nodes() == []


async def test_a_stop_needs_none_of_the_threads_that_jobs_hold_for_ever(open_shop, wait_until):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    free = threading.Event()

    async def holds():
        await asyncio.to_thread(free.wait)

    shop = await open_shop(shutdown_grace=timedelta(0))
    shop.add(holds)
    [job] = await shop.enqueue("holds")
    shop.start()
    try:
        await wait_until(lambda: shop.worker.busy)
        await shop.stop()
        assert await shop.states([job]) == [State.PENDING]
    finally:
        free.set()


async def test_a_worker_whose_own_task_is_cancelled_gives_back_at_once_what_runs(shop, wait_until):
    [job] = await shop.enqueue()
    shop.start()
    await wait_until(lambda: shop.begun)
    shop.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shop.running
    assert shop.cancelled == [job]
    assert await shop.states([job]) == [State.PENDING]
    assert await shop.backend.nodes() == []
    assert len(shop.heard(WorkerStopped)) == 1


async def test_a_worker_cancelled_in_its_grace_hurries(open_shop, wait_until):
    shop = await open_shop(shutdown_grace=timedelta(hours=1))
    [job] = await shop.enqueue()
    worker = shop.start()
    await wait_until(lambda: shop.begun)
    worker.stop()
    await wait_until(lambda: shop.heard(WorkerStopping))
    shop.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shop.running
    assert await shop.states([job]) == [State.PENDING]
    assert len(shop.heard(WorkerStopping)) == 1


async def test_a_job_that_was_cancelled_before_the_stop_is_cancelled(open_shop, wait_until, flaky):
    shop = await open_shop(shutdown_grace=timedelta(milliseconds=1))
    [job_id] = await shop.enqueue()
    shop.start()
    await wait_until(lambda: shop.begun)
    await flaky.cancel(JobFilter(ids=(job_id,)), reason="not wanted")
    await shop.stop()
    assert await shop.states([job_id]) == [State.CANCELLED]


async def test_a_thread_that_ignores_its_timeout_makes_the_worker_drain_and_say_so(shop, wait_until, monkeypatch):
    monkeypatch.setattr(deadlines, "_PATIENCE", 0.02)
    monkeypatch.setattr(shutdown, "LAST_WORDS", 0.05)
    shop.settings = msgspec.structs.replace(shop.settings, shutdown_grace=timedelta(milliseconds=20))
    finish = threading.Event()

    def deaf():
        finish.wait(20)

    shop.add(deaf, timeout_seconds=0.01)
    [job_id] = await shop.enqueue("deaf")
    worker = shop.start()
    try:
        await asyncio.wait_for(shop.running, 20)
    finally:
        finish.set()
    assert worker.is_stuck
    [ignored] = shop.heard(TaskIgnoresTimeout)
    assert (ignored.job_id, ignored.lost, ignored.slots) == (job_id, 1, 2)
    assert ignored.place == f"test_worker.py:{deaf.__code__.co_firstlineno + 1}"
    assert [event.reason for event in shop.heard(WorkerStuck)] == ["1 of its 2 slots are lost"]
    # Not settled while its code runs: it is left to be rescued.
    assert await shop.states([job_id]) == [State.RUNNING]
    assert [record.node.id for record in await shop.backend.nodes()] == [worker.node_id]


@pytest.fixture
def deaf(monkeypatch):
    """A plain function that runs on until the test is over, in a worker whose process is its own or not."""
    monkeypatch.setattr(shutdown, "LAST_WORDS", 0.05)
    finish = threading.Event()

    def deaf():
        finish.wait(20)

    deaf.finish = finish
    yield deaf
    finish.set()


async def _stopped_beside(deaf, shop, wait_until, **options):
    shop.settings = msgspec.structs.replace(shop.settings, shutdown_grace=timedelta(0))
    shop.add(deaf, **options)
    [job] = await shop.enqueue("deaf", max_attempts=1)
    shop.start()
    await wait_until(lambda: shop.worker.busy)
    await shop.stop()
    return await shop.backend.get(job)


async def test_a_thread_that_does_not_look_is_given_back_as_the_last_write_of_its_process(
    shop, wait_until, monkeypatch, caplog, deaf
):
    monkeypatch.setattr(assembly, "owns_process", lambda _: True)
    ends = []
    monkeypatch.setattr(shutdown, "end_within", ends.append)
    before = datetime.now(UTC)
    job = await _stopped_beside(deaf, shop, wait_until)
    assert (job.state, job.attempt) == (State.SCHEDULED, 0)
    # Longer than its process lives.
    [within] = ends
    assert timedelta(seconds=within) < job.scheduled_at - before
    assert f"the job {job.id} did not stop; its process ends with it" in caplog.text
    assert await shop.backend.nodes() == []


async def test_a_thread_that_does_not_look_is_left_where_the_process_is_not_the_worker_s(
    shop, wait_until, caplog, deaf
):
    job = await _stopped_beside(deaf, shop, wait_until)
    assert (job.state, job.attempt) == (State.RUNNING, 1)
    assert f"the job {job.id} did not stop; it is left to be rescued" in caplog.text


async def test_what_has_ended_during_the_stop_hooks_is_written(shop, wait_until, deaf):
    async def let_it_end():
        deaf.finish.set()
        await wait_until(lambda: not shop.worker.busy)

    shop.hooks.stops.append(let_it_end)
    job = await _stopped_beside(deaf, shop, wait_until)
    assert job.state is State.COMPLETED


async def test_a_worker_goes_on_beside_a_thread_that_ignores_its_timeout_and_has_its_slot_back_in_the_end(
    open_shop, wait_until, monkeypatch
):
    monkeypatch.setattr(deadlines, "_PATIENCE", 0.02)
    shop = await open_shop(queues={"default": 3})
    finish = threading.Event()

    def deaf():
        finish.wait(20)

    shop.add(deaf, timeout_seconds=0.01, max_attempts=1)
    [job_id] = await shop.enqueue("deaf", max_attempts=1)
    worker = shop.start()
    try:
        await wait_until(lambda: shop.heard(TaskIgnoresTimeout))
        await shop.enqueue(number=3)
        # With the slots that are left.
        await wait_until(lambda: len(shop.begun) == 2)
        assert await shop.states([job_id]) == [State.RUNNING]
        assert worker.is_ready
    finally:
        finish.set()
    await wait_until(lambda: len(shop.begun) == 3)
    [freed] = shop.heard(SlotFreed)
    assert (freed.job_id, freed.lost, freed.slots) == (job_id, 0, 3)
    await wait_until(lambda: shop.heard(JobDiscarded))
    [discarded] = shop.heard(JobDiscarded)
    assert discarded.error.kind == "TimeoutError"
    assert "longer than its timeout of 10 ms, in test_worker.py:" in discarded.error.message
    assert not worker.is_stopping


async def test_what_runs_beside_a_stuck_thread_may_end_before_its_worker_does(open_shop, wait_until, monkeypatch):
    monkeypatch.setattr(deadlines, "_PATIENCE", 0.02)
    monkeypatch.setattr(shutdown, "LAST_WORDS", 0.05)
    shop = await open_shop(queues={"default": 2}, shutdown_grace=timedelta(hours=1), stuck_slots_limit=1)
    finish, may_begin = threading.Event(), asyncio.Event()

    def deaf():
        finish.wait(20)

    async def slow():
        may_begin.set()
        await shop.may_finish.wait()

    shop.add(deaf, timeout_seconds=0.01)
    shop.add(slow)
    [stuck], [other] = await shop.enqueue("deaf"), await shop.enqueue("slow")
    worker = shop.start()
    try:
        await wait_until(lambda: worker.is_stuck and may_begin.is_set())
        assert not shop.running.done()
        # The grace period is not spent on what does not end.
        shop.may_finish.set()
        await asyncio.wait_for(shop.running, 20)
    finally:
        finish.set()
    assert await shop.states([stuck, other]) == [State.RUNNING, State.COMPLETED]


async def test_a_worker_that_stops_anyway_is_not_stuck_and_does_not_hurry(open_shop, wait_until, monkeypatch):
    monkeypatch.setattr(deadlines, "_PATIENCE", 0.02)
    shop = await open_shop(queues={"default": 2}, shutdown_grace=timedelta(hours=1))
    finish = threading.Event()

    def deaf():
        finish.wait(20)

    shop.add(deaf, timeout_seconds=0.01)
    await shop.enqueue()
    worker = shop.start()
    await wait_until(lambda: shop.begun)
    [job_id] = await shop.enqueue("deaf")
    await wait_until(lambda: worker.busy == 2)
    worker.stop()
    try:
        await wait_until(lambda: shop.heard(TaskIgnoresTimeout))
        assert not worker.is_stuck
        assert shop.cancelled == []
    finally:
        finish.set()
    shop.may_finish.set()
    await asyncio.wait_for(shop.running, 20)
    assert len(shop.finished) == 1
    assert (await shop.backend.get(job_id)).state is not State.RUNNING


async def test_a_coroutine_that_stood_in_line_behind_one_that_blocked_the_loop_is_not_late(open_shop, wait_until):
    shop = await open_shop(loop_stall_warning=timedelta(milliseconds=50))
    is_waiting, stalled = asyncio.Event(), threading.Event()
    shop.bus.subscribe(lambda _: stalled.set(), LoopStalled)
    answered = asyncio.get_running_loop().create_future()

    async def waits():
        is_waiting.set()
        await answered

    async def blocks():
        await is_waiting.wait()
        # Its answer is there, and its turn does not come.
        answered.set_result(None)
        stalled.wait(20)
        block_for(0.3)

    shop.add(waits, timeout_seconds=0.2)
    shop.add(blocks, timeout_seconds=0.2)
    [waiting], [blocking] = await shop.enqueue("waits", max_attempts=1), await shop.enqueue("blocks", max_attempts=1)
    shop.start()
    await wait_until(lambda: len(shop.heard(JobCompleted)) + len(shop.heard(JobDiscarded)) == 2)
    assert await shop.states([waiting, blocking]) == [State.COMPLETED, State.DISCARDED]


async def test_a_coroutine_that_blocked_the_loop_itself_is_late_wherever_it_did(open_shop, wait_until):
    shop = await open_shop(loop_stall_warning=timedelta(milliseconds=20), queues={"default": 1})

    async def block():
        block_for(0.1)

    async def at_once():
        await block()

    async def between():
        await asyncio.sleep(0)
        await block()
        await asyncio.sleep(0)

    async def in_a_task():
        await asyncio.gather(block())

    for function in (at_once, between, in_a_task):
        shop.add(function, timeout_seconds=0.05)
        await shop.enqueue(function.__name__, max_attempts=1)
    shop.start()
    await wait_until(lambda: len(shop.heard(JobDiscarded)) == 3)
    assert shop.heard(JobCompleted) == []
    assert {event.error.kind for event in shop.heard(JobDiscarded)} == {"TimeoutError"}


async def test_a_coroutine_that_is_slow_to_stop_does_not_end_the_worker(shop, wait_until, monkeypatch):
    monkeypatch.setattr(deadlines, "_PATIENCE", 0.02)

    async def slow_to_stop():
        try:
            await shop.may_finish.wait()
        except asyncio.CancelledError:
            await shop.may_finish.wait()

    shop.add(slow_to_stop, timeout_seconds=0.01)
    await shop.enqueue("slow_to_stop")
    worker = shop.start()
    shop_done = shop.heard
    await wait_until(lambda: shop_done(TaskIgnoresTimeout) or shop_done(JobCompleted) or shop.events[3:])
    assert not worker.is_stuck
    assert not shop.running.done()


# Ready.


async def test_it_is_ready_when_claims_are_answered_and_not_because_other_calls_are(shop, wait_until, flaky):
    flaky.fail("claim")
    worker = shop.start()
    await wait_until(lambda: len(flaky.called("claim")) > 1 and flaky.called("promote") and flaky.called("beat"))
    assert not worker.is_ready
    flaky.restore()
    await wait_until(lambda: worker.is_ready)
    flaky.fail("claim")
    await wait_until(lambda: not worker.is_ready)


async def test_one_queue_that_cannot_be_claimed_makes_it_not_ready(shop, wait_until, flaky):
    claim = flaky.backend.claim

    async def claim_all_but_emails(queue, **rest):
        if queue == "emails":
            raise BackendUnavailableError("this one is damaged")
        return await claim(queue, **rest)

    flaky.backend.claim = claim_all_but_emails
    shop.settings = msgspec.structs.replace(shop.settings, queues={"default": 2, "emails": 1})
    worker = shop.start()
    await wait_until(lambda: len(flaky.called("claim")) > 10)
    assert not worker.is_ready
    flaky.backend.claim = claim
    await wait_until(lambda: worker.is_ready)


async def test_a_full_worker_whose_store_is_gone_is_not_ready(shop, wait_until, flaky):
    await shop.enqueue(number=2)
    worker = shop.start()
    await wait_until(lambda: len(shop.begun) == 2 and worker.is_ready)
    flaky.fail("claim", "promote", "settle")
    await wait_until(lambda: not worker.is_ready)
    flaky.restore()
    shop.may_finish.set()
    await wait_until(lambda: worker.is_ready)


async def test_a_paused_queue_leaves_it_ready(shop, wait_until, flaky):
    await flaky.put_queue(QueueSettings(name="default", paused_at=NOW))
    worker = shop.start()
    await wait_until(lambda: len(flaky.called("claim")) > 3)
    assert worker.is_ready


async def test_its_pulse_is_told_while_jobs_run(shop, wait_until):
    pulses = []
    await shop.enqueue(number=1)
    worker = shop.start()
    worker.on_pulse(pulses.append)
    await wait_until(lambda: pulses and worker.busy == 1)
    shop.may_finish.set()
    await wait_until(lambda: worker.busy == 0)
    assert not worker.is_stopping
    worker.stop()
    assert worker.is_stopping
