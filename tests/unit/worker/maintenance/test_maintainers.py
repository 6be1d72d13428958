"""The maintainers: jobs come due, the dead are rescued, the old deleted, each by one turn."""

import logging
import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks.backends import protocol
from deeper_tasks.backends.protocol import MAX_BATCH, Retention
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.schedule import ScheduleBook
from deeper_tasks.domain.settlement import End, Report, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendError, BackendUnavailableError
from deeper_tasks.integrations.events import (
    CleanupRan,
    EventBus,
    JobCancelled,
    JobDiscarded,
    JobExpired,
    JobRescued,
    QueueNearCapacity,
)
from deeper_tasks.integrations.logs import LogSubscriber
from deeper_tasks.tasks import TaskRegistry, make_task
from deeper_tasks.testing.conformance.builders import (
    DAY,
    HOUR,
    SECOND,
    every_job,
    join,
    look,
    new_node,
    only,
    put,
    put_many,
    put_running,
    settle,
    state_of,
    take,
)
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.liveness.host import describe_node, is_known_dead
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.maintenance.clock_watch import TOLERANCE
from deeper_tasks.worker.maintenance.maintainers import Expirer, Promoter, Pruner, Rescuer
from deeper_tasks.worker.settings import WorkerSettings

POLL = timedelta(seconds=1)
AT_ONCE = timedelta(0)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=20)
SETTINGS = WorkerSettings(queues={"default": 2}, poll_interval=POLL, lease=LEASE)


@pytest.fixture
def bus():
    bus = EventBus()
    bus.heard = []
    bus.subscribe(bus.heard.append)
    return bus


def kinds(bus):
    return [type(event) for event in bus.heard]


# The promoter.


async def test_the_promoter_makes_due_jobs_pending(flaky):
    ids = await put_many(flaky, 3, delay=SECOND, queue="mail", now=None)
    promote = flaky.backend.promote

    async def later(**_):
        return await promote(now=(await look(flaky, ids[0])).scheduled_at)

    flaky.backend.promote = later
    assert await Promoter(backend=flaky, settings=SETTINGS).turn() == POLL
    assert (await look(flaky, ids[0])).state is State.PENDING


async def test_the_promoter_sleeps_until_the_next_job_is_due_but_not_longer_than_it_polls(flaky):
    promoter = Promoter(backend=flaky, settings=SETTINGS)
    assert await promoter.turn() == POLL
    await put(flaky, delay=HOUR, now=None)
    assert await promoter.turn() == POLL
    await put(flaky, delay=timedelta(milliseconds=500), now=None)
    assert timedelta(0) < await promoter.turn() <= timedelta(milliseconds=500)


async def test_the_promoter_goes_on_at_once_after_a_full_batch(flaky):
    await put_many(flaky, MAX_BATCH + 1, delay=DAY, now=LONG_AGO)
    promoter = Promoter(backend=flaky, settings=SETTINGS)
    assert await promoter.turn() == AT_ONCE
    assert await promoter.turn() == POLL
    assert {job.state for job in await every_job(flaky)} == {State.PENDING}


# The rescuer.


class Rescue:
    """A rescuer with a node of its own, which beats, on a clock that the test moves."""

    def __init__(self, backend, clock, bus, settings=SETTINGS):
        self.backend = backend
        self.clock = clock
        self.membership = Membership(backend=backend, settings=settings)
        self.registry = TaskRegistry()
        self.rescuer = Rescuer(
            Collaborators(backend=backend, registry=self.registry, bus=bus, clock=clock),
            settings,
            membership=self.membership,
        )

    async def watch(self, seconds, *, every=1.0, is_beating=True):
        for _ in range(int(seconds / every)):
            await self.turn(is_beating=is_beating)
            self.clock.now += every
        await self.turn(is_beating=is_beating)

    async def turn(self, *, is_beating=True):
        if is_beating:
            await self.backend.beat(self.membership.node_id)
        return await self.rescuer.turn()

    async def others(self):
        return [record for record in await self.backend.nodes() if record.node.id != self.membership.node_id]


@pytest.fixture
async def rescue(flaky, clock, bus):
    rescue = Rescue(flaky, clock, bus)
    await rescue.membership.join()
    return rescue


async def test_a_node_is_dead_after_a_whole_lease_of_unchanged_beats(rescue, flaky, bus):
    node = await join(flaky)
    job = await put_running(flaky, node)
    await rescue.watch(19)
    assert await state_of(flaky, job.id) is State.RUNNING
    await rescue.watch(1)
    assert await state_of(flaky, job.id) is State.PENDING
    [event] = bus.heard
    assert isinstance(event, JobRescued)
    assert (event.job_id, event.node, event.state) == (job.id, node, State.PENDING)
    assert (event.task, event.queue, event.attempt) == ("shop.mails.send", "default", 1)
    assert await rescue.others() == []


async def test_a_node_that_cannot_be_rescued_keeps_no_other_from_it(rescue, flaky):
    nodes = [await join(flaky, name, now=None) for name in ("first", "second")]
    for node in nodes:
        await put_running(flaky, node, now=None)
    rescue_of, refused = flaky.backend.rescue, []

    async def refuse_first(node, **options):
        if node == nodes[0]:
            refused.append(node)
            raise BackendError("refused")
        return await rescue_of(node, **options)

    flaky.backend.rescue = refuse_first
    with pytest.raises(BackendError, match="refused"):
        await rescue.watch(2 * LEASE.total_seconds())
    assert refused == nodes[:1]
    assert [record.node.id for record in await rescue.others()] == nodes[:1]


async def test_a_job_of_a_trusted_task_is_not_quarantined(rescue, flaky):
    node = await join(flaky)
    await put_running(flaky, node, task="shop.trusted")
    await put_running(flaky, node, task="shop.other")
    rescue.registry.add(make_task(lambda: None, name="shop.trusted", quarantine=False))
    await rescue.watch(20)
    jobs = await take(flaky, rescue.membership.node_id, limit=2)
    assert {job.task: job.is_quarantined for job in jobs} == {"shop.trusted": False, "shop.other": True}


async def test_a_beat_makes_the_lease_begin_anew(rescue, flaky, bus):
    node = await join(flaky)
    await put_running(flaky, node)
    for _ in range(5):
        await rescue.watch(19)
        await flaky.beat(node)
    assert bus.heard == []
    await rescue.watch(20)
    assert kinds(bus) == [JobRescued]


async def test_an_outage_of_the_store_makes_nobody_dead(rescue, flaky, bus):
    node = await join(flaky)
    await put_running(flaky, node)
    await rescue.watch(10)
    flaky.fail("nodes")
    for _ in range(30):
        with pytest.raises(BackendUnavailableError):
            await rescue.rescuer.turn()
        rescue.clock.now += 1
    flaky.restore()
    await rescue.watch(19)
    assert bus.heard == []
    await rescue.watch(1)
    assert kinds(bus) == [JobRescued]


async def test_a_store_that_can_only_be_read_makes_nobody_dead(rescue, flaky, bus):
    await put_running(flaky, await join(flaky))
    await rescue.watch(5)
    await rescue.watch(120, is_beating=False)
    await rescue.watch(19)
    assert bus.heard == []
    await rescue.watch(1)
    assert kinds(bus) == [JobRescued]


async def test_a_worker_does_not_take_itself_for_dead(rescue, flaky, bus):
    await put_running(flaky, rescue.membership.node_id)
    await rescue.watch(120, is_beating=False)
    assert bus.heard == []


async def test_a_node_that_the_store_does_not_let_go_of_has_its_lease_begin_anew(rescue, flaky, bus, monkeypatch):
    node = await join(flaky)
    job = await put_running(flaky, node)
    free, tried = flaky.rescue, []

    async def held(node, **_):
        tried.append(node)
        return protocol.Rescue(jobs=(), queues=frozenset(), is_finished=True)

    monkeypatch.setattr(flaky, "rescue", held)
    await rescue.watch(20)
    assert tried == [node]
    monkeypatch.setattr(flaky, "rescue", free)
    # Its beats, which waited, are written now: they come before the next lease is over.
    await rescue.watch(19)
    await flaky.beat(node)
    await rescue.watch(19)
    assert await state_of(flaky, job.id) is State.RUNNING
    await rescue.watch(1)
    assert JobRescued in kinds(bus)


async def test_a_machine_that_was_suspended_takes_nobody_for_dead(rescue, flaky, bus):
    await put_running(flaky, await join(flaky))
    await rescue.watch(5)
    rescue.clock.now += 3600
    await rescue.watch(19)
    assert bus.heard == []
    await rescue.watch(1)
    assert kinds(bus) == [JobRescued]


async def test_short_leases_are_watched_often_enough(flaky, clock, bus):
    settings = WorkerSettings(queues={"default": 1}, lease=timedelta(seconds=0.8), heartbeat=timedelta(seconds=0.2))
    rescue = Rescue(flaky, clock, bus, settings)
    await rescue.membership.join()
    await put_running(flaky, await join(flaky))
    for _ in range(10):
        clock.now += (await rescue.turn()).total_seconds()
    assert kinds(bus) == [JobRescued]


async def test_a_dead_node_with_many_jobs_is_emptied_batch_by_batch(rescue, flaky, bus):
    node = await join(flaky)
    await put_many(flaky, MAX_BATCH + 10)
    while await take(flaky, node, limit=MAX_BATCH):
        pass
    await rescue.watch(20)
    assert len(bus.heard) == MAX_BATCH + 10
    assert await rescue.others() == []


async def test_a_job_that_keeps_killing_its_worker_ends_in_the_dead_letters(rescue, flaky, bus):
    job_id = await put(flaky, max_attempts=3)
    for _ in range(3):
        [claimed] = await take(flaky, await join(flaky))
        # From the second attempt on it runs in quarantine, whose start the worker writes.
        await flaky.report([Report(id=claimed.id, token=claimed.token, has_started=True)])
        await rescue.watch(20)
    job = await look(flaky, job_id)
    assert (job.state, job.attempt, len(job.errors)) == (State.DISCARDED, 3, 3)
    assert kinds(bus) == [JobRescued] * 3 + [JobDiscarded]


async def test_a_discard_by_a_rescue_is_told_and_logged_as_any_other(rescue, flaky, bus, caplog):
    LogSubscriber().subscribe_to(bus)
    node = await join(flaky)
    job = await put_running(flaky, node, max_attempts=1, task="shop.pay", queue="till")
    await rescue.watch(20)
    [event] = [event for event in bus.heard if isinstance(event, JobDiscarded)]
    assert (event.job_id, event.task, event.queue, event.attempt) == (job.id, "shop.pay", "till", 1)
    assert event.error == worker_lost(node)
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (line.job_id, line.task, line.queue, line.attempt) == (job.id, "shop.pay", "till", 1)
    assert f"discarded after 1 attempt: shop.pay {job.id}: WorkerLost: " in line.getMessage()


async def test_a_cancel_by_a_rescue_is_told_with_its_reason(rescue, flaky, bus):
    job = await put_running(flaky, await join(flaky))
    await flaky.cancel(only(job.id), reason="enough")
    await rescue.watch(20)
    assert kinds(bus) == [JobRescued, JobCancelled]
    assert (bus.heard[1].job_id, bus.heard[1].attempt, bus.heard[1].reason) == (job.id, 1, "enough")


async def test_a_live_pid_does_not_prevent_a_rescue(rescue, flaky, bus):
    node = describe_node("worker", {"default": 1})
    assert not is_known_dead(node)
    await flaky.register(node)
    await put_running(flaky, node.id)
    await rescue.watch(20)
    assert kinds(bus) == [JobRescued]


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"scope": "before"}, {"scope": ""}])
def test_a_process_elsewhere_cannot_be_judged_by_its_pid(changes):
    here = describe_node("worker", {})
    assert not is_known_dead(msgspec.structs.replace(here, pid=2**22 + 1, **changes))


def test_a_pid_that_was_given_to_another_process_is_dead():
    here = describe_node("worker", {})
    assert is_known_dead(msgspec.structs.replace(here, pid_started="1"))


def test_each_start_has_a_node_id_of_its_own():
    assert describe_node("worker", {}).id != describe_node("worker", {}).id


# The expirer.


async def test_the_expirer_fails_what_was_not_started_in_time(store, bus):
    job_id = await put(store, expires_in=SECOND, now=None)
    expirer = Expirer(backend=store, settings=SETTINGS, bus=bus)
    assert await expirer.turn() == POLL
    assert bus.heard == []
    expire = store.expire
    due = (await look(store, job_id)).expires_at

    async def later(**_):
        return await expire(now=due)

    store.expire = later
    assert await expirer.turn() == POLL
    assert [(type(event), event.job_id) for event in bus.heard] == [(JobExpired, job_id)]
    assert (bus.heard[0].task, bus.heard[0].queue, bus.heard[0].attempt) == ("shop.mails.send", "default", 0)
    assert bus.heard[0].error == EXPIRED
    assert await state_of(store, job_id) is State.FAILED


async def test_the_expirer_warns_once_of_a_queue_that_grows_too_long(store, bus):
    settings = msgspec.structs.replace(SETTINGS, queue_capacity=3)
    expirer = Expirer(backend=store, settings=settings, bus=bus)
    await put_many(store, 2, queue="mail", now=None)
    await expirer.turn()
    assert bus.heard == []
    await put_many(store, 2, queue="mail", now=None)
    await expirer.turn()
    await expirer.turn()
    assert bus.heard == [QueueNearCapacity(queue="mail", pending=4, capacity=3)]
    node = await join(store, now=None)
    await take(store, node, limit=4, queue="mail", now=None)
    await expirer.turn()
    await put_many(store, 3, queue="mail", now=None)
    await expirer.turn()
    assert len(bus.heard) == 2


# The pruner.


async def test_the_pruner_deletes_what_is_past_its_retention(store, clock, bus):
    node = await join(store)
    await put_many(store, 3)
    await settle(store, await take(store, node, limit=3), End.COMPLETE)
    settings = msgspec.structs.replace(SETTINGS, retention=Retention(completed=None, failed=None))
    assert await Pruner(backend=store, settings=settings, clock=clock, bus=bus).turn() == SETTINGS.cleanup_interval
    assert bus.heard == []
    prune = store.prune

    async def later(retention, **_):
        [first, *_] = await every_job(store)
        return await prune(retention, now=first.finished_at + 8 * DAY)

    store.prune = later
    assert await Pruner(backend=store, settings=SETTINGS, clock=clock, bus=bus).turn() == SETTINGS.cleanup_interval
    assert [(type(event), event.deleted) for event in bus.heard] == [(CleanupRan, 3)]
    assert await every_job(store) == []


async def test_the_pruner_goes_on_soon_after_a_full_batch_but_not_at_once(flaky, clock, bus):
    async def full(*_, **__):
        return MAX_BATCH

    flaky.backend.prune = full
    pause = await Pruner(backend=flaky, settings=SETTINGS, clock=clock, bus=bus).turn()
    assert AT_ONCE < pause < SETTINGS.cleanup_interval


async def test_a_step_of_the_clock_by_which_is_still_pruned_makes_no_living_node_forgotten(store, clock, bus):
    node = await join(store)
    await store.beat(node)
    prune = store.prune

    async def stepped(retention, *, now):
        return await prune(retention, now=now + TOLERANCE + LEASE)

    store.prune = stepped
    await Pruner(backend=store, settings=SETTINGS, clock=clock, bus=bus).turn()
    assert [record.node.id for record in await store.nodes()] == [node]


async def test_the_pruner_deletes_nothing_by_a_clock_that_has_just_stepped_a_year(flaky, clock, bus, caplog):
    def wrong_by(step):
        async def schedules(*, now=None):
            return ScheduleBook(now=datetime.fromtimestamp(clock.monotonic(), UTC) + step, entries=())

        return schedules

    pruner = Pruner(backend=flaky, settings=SETTINGS, clock=clock, bus=bus)
    flaky.backend.schedules = wrong_by(0 * DAY)
    await pruner.turn()
    assert len(flaky.called("prune")) == 1
    flaky.backend.schedules = wrong_by(365 * DAY)
    assert [await pruner.turn(), await pruner.turn()] == [SETTINGS.cleanup_interval] * 2
    assert len(flaky.called("prune")) == 1
    assert caplog.text.count("the store's clock has stepped by 365 d 0 h") == 1
    flaky.backend.schedules = wrong_by(0 * DAY)
    await pruner.turn()
    assert len(flaky.called("prune")) == 2


def test_a_node_describes_its_process():
    node = describe_node("mail", {"default": 3})
    assert (node.name, node.pid, node.queues) == ("mail", os.getpid(), {"default": 3})
    assert node.id != new_node().id
