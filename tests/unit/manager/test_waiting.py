"""Why a job waits, in one line: as the store and its workers are when it is asked."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from deeper_tasks.backends.protocol import HeldJobs, Node, NodeRecord, Service
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from deeper_tasks.domain.waiting import WaitReason
from deeper_tasks.manager.waiting import may_wait, waiting_for
from deeper_tasks.testing.conformance.builders import new_node, new_token

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE = timedelta(seconds=20)
JOB = Job(
    id=JobId("job"),
    state=State.PENDING,
    task="shop.send",
    arguments="[[],{}]",
    queue="emails",
    priority=0,
    attempt=0,
    max_attempts=5,
    inserted_at=NOW,
    scheduled_at=NOW,
)


def a_job(**fields):
    return msgspec.structs.replace(JOB, **fields)


def worker(name="one", *, beat_at=NOW, **queues):
    node = Node(id=NodeId(name), name=name, host="other", scope="", pid=1, pid_started="", queues=queues)
    return NodeRecord(node=node, beat=1, busy=0, registered_at=NOW, beat_at=beat_at)


def why(job, *nodes, paused_at=None, held=(), knows=None):
    service = Service(paused_at=paused_at, nodes=nodes, held=held, knows_task=knows or {}, now=NOW)
    return waiting_for(job, service, lease=LEASE)


def busy(name, count, queue="emails"):
    return HeldJobs(node=NodeId(name), queue=queue, claimed=count, begun=count)


def nothing():
    pass


def nothing_more():
    pass


async def told_all(known):
    return all(await known)


SILENT = worker("silent", beat_at=NOW - 2 * LEASE, emails=5)
LATER = NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("found", "reason", "message"),
    [
        (
            why(a_job(state=State.SCHEDULED, scheduled_at=LATER), paused_at=NOW),
            WaitReason.NOT_DUE,
            "not due until 2026-01-31 12:05:00 UTC, in 5 min 0 s",
        ),
        (
            why(a_job(state=State.RETRYABLE, attempt=1, scheduled_at=LATER), worker(emails=1)),
            WaitReason.NOT_DUE,
            "not due until 2026-01-31 12:05:00 UTC, in 5 min 0 s",
        ),
        (
            why(JOB, worker(emails=1), paused_at=NOW - LEASE),
            WaitReason.QUEUE_PAUSED,
            "the queue 'emails' is paused, since 2026-01-31 11:59:40 UTC",
        ),
        (
            why(JOB, worker(default=1), SILENT),
            WaitReason.QUEUE_UNSERVED,
            "no live worker serves the queue 'emails'",
        ),
        (
            why(JOB, SILENT),
            WaitReason.QUEUE_UNSERVED,
            "no live worker serves the queue 'emails'; none is alive at all",
        ),
        (
            why(a_job(state=State.SCHEDULED, scheduled_at=NOW - LEASE), SILENT),
            WaitReason.QUEUE_UNSERVED,
            "no live worker serves the queue 'emails'; none is alive at all",
        ),
        (
            why(JOB, worker(emails=1), worker("two", default=1), knows={"one": False, "two": True}),
            WaitReason.TASK_UNKNOWN,
            "no live worker that serves the queue 'emails' knows the task 'shop.send'",
        ),
        (
            why(
                a_job(state=State.SCHEDULED, scheduled_at=LATER, unknown_since=NOW),
                worker(emails=1),
                knows={"one": False},
            ),
            WaitReason.TASK_UNKNOWN,
            "no live worker that serves the queue 'emails' knows the task 'shop.send'",
        ),
        (
            why(JOB, worker(emails=2), worker("two", **{"*": 3}), held=[busy("one", 2), busy("two", 3, "default")]),
            WaitReason.SLOTS_BUSY,
            "all 5 slots for the queue 'emails', of 2 workers, are busy",
        ),
        (
            why(JOB, worker(emails=1), held=[busy("one", 1)], knows={"one": True}),
            WaitReason.SLOTS_BUSY,
            "the only slot for the queue 'emails', of 1 worker, is busy",
        ),
        (
            why(a_job(attempt=1, is_quarantined=True), worker(emails=1)),
            WaitReason.QUARANTINE,
            "it waits for a place in quarantine",
        ),
        (
            why(a_job(state=State.RUNNING, attempt=1, node=NodeId("one")), worker(emails=1)),
            WaitReason.CLAIMED,
            "the worker one has claimed it and not begun it yet: it waits there for its turn",
        ),
        (
            why(a_job(state=State.RUNNING, attempt=1, node=NodeId("silent")), SILENT, worker(default=1)),
            WaitReason.CLAIMED,
            "the worker silent, which has claimed it, is silent or dead; a live one takes it within a lease",
        ),
        (
            why(a_job(state=State.RUNNING, attempt=1, node=NodeId("silent")), SILENT),
            WaitReason.QUEUE_UNSERVED,
            "no live worker serves the queue 'emails'; none is alive at all",
        ),
    ],
)
def test_a_job_says_what_holds_it(found, reason, message):
    assert (found.reason, found.message) == (reason, message)
    assert (found.until is not None) == (reason is WaitReason.NOT_DUE)


def test_nothing_holds_a_job_for_which_a_worker_has_a_slot():
    assert why(JOB, worker(emails=2), held=[busy("one", 1)]) is None
    assert why(JOB, worker(**{"e*": 2})) is None


def test_a_worker_that_does_not_tell_its_tasks_may_know_the_task():
    assert why(JOB, worker(emails=1), worker("two", emails=1), knows={"one": False}) is None


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED, State.BLOCKED])
def test_what_has_ended_waits_for_nothing(state):
    assert not may_wait(a_job(state=state))


def test_what_has_begun_waits_for_nothing():
    assert not may_wait(a_job(state=State.RUNNING, attempt=1, attempted_at=NOW))


async def test_a_status_tells_what_the_job_waits_for_until_it_has_begun(manager, working, wait_until):
    goes_on, has_begun = asyncio.Event(), asyncio.Event()

    @manager.task(name="shop.send")
    async def send():
        has_begun.set()
        await goes_on.wait()

    async def reason_of(task_id):
        told = (await manager.get_task_status(task_id)).waiting_for
        return None if told is None else told.reason

    task_id = await send.enqueue()
    assert await reason_of(task_id) is WaitReason.QUEUE_UNSERVED
    async with working(manager, {"default": 1}):
        await has_begun.wait()
        assert await reason_of(task_id) is None
        following = await send.enqueue()
        assert await reason_of(following) is WaitReason.SLOTS_BUSY
        await manager.queues.pause("default")
        assert await reason_of(following) is WaitReason.QUEUE_PAUSED
        assert await reason_of(await send.with_options(delay_seconds=60).enqueue()) is WaitReason.NOT_DUE
        await manager.queues.resume("default")
        goes_on.set()
        await manager.result(following, timeout=20)
    ended = await manager.get_task_status(task_id)
    assert ended.waiting_for is None
    assert ended.to_dict()["waiting_for"] is None


async def test_a_worker_tells_which_tasks_it_knows_also_those_that_come_later(manager, working, wait_until):
    async def known(task):
        return [*(await manager.backend.service("emails", task=task)).knows_task.values()]

    manager.task(name="shop.send")(nothing)
    async with working(manager, {"emails": 1}):
        await wait_until(manager.backend.nodes)
        assert (await known("shop.send"), await known("shop.late")) == ([True], [False])
        assert await known(f"{nothing.__module__}.nothing") == [True]
        manager.task(name="shop.late")(nothing_more)
        # A beat that is asked for: the next one would be seconds away.
        await manager.queues.pause("other")
        await wait_until(lambda: told_all(known("shop.late")))


async def test_more_than_2000_tasks_are_not_told(manager, working, wait_until):
    names = frozenset(map(str, range(2_001)))
    manager.registry.names = lambda: names
    async with working(manager):
        await wait_until(manager.backend.nodes)
        assert (await manager.backend.service("default", task="shop.other")).knows_task == {}


async def test_what_a_worker_has_claimed_ahead_is_pending_and_no_attempt(manager):
    send, node = manager.task(name="shop.send")(nothing), new_node()
    await manager.backend.register(node)
    first, ahead = await send.enqueue(), await send.enqueue()
    await manager.backend.claim("default", limit=2, slots=1, node=node.id, token=new_token())
    begun, waiting = [await manager.get_task_status(task_id) for task_id in (first, ahead)]
    assert (begun.status, begun.attempts, begun.waiting_for) == (State.RUNNING, 1, None)
    assert (waiting.status, waiting.attempts, waiting.waiting_for.reason) == (State.PENDING, 0, WaitReason.CLAIMED)
    assert [(job.id, job.attempts) for job in (await manager.list_tasks(status="running")).entries] == [(first, 1)]
    assert {job.id: job.status for job in (await manager.list_tasks()).entries} == {
        first: State.RUNNING,
        ahead: State.PENDING,
    }


async def test_a_job_that_was_claimed_ahead_as_a_short_one_is_told_as_running_from_the_next_beat_on(
    manager, working, wait_until
):
    begun, goes_on = asyncio.Event(), asyncio.Event()

    @manager.task(name="shop.short")
    async def short(): ...

    @manager.task(name="shop.long")
    async def long():
        begun.set()
        await goes_on.wait()

    async def is_running(task_id):
        return (await manager.get_task_status(task_id)).status is State.RUNNING

    async with working(manager, {"default": 1}):
        await manager.result(await short.enqueue(), timeout=20)
        _, last = await manager.enqueue_many([short.call(), long.call()])
        await begun.wait()
        # A beat that is asked for: the next one would be seconds away.
        await manager.queues.pause("other")
        await wait_until(lambda: is_running(last))
        goes_on.set()
        await manager.result(last, timeout=20)
