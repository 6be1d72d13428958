"""The overview: the queues and the workers one by one."""

from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks.backends.protocol import Counts, Node, NodeRecord, QueueCounts
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.state import State
from deeper_tasks.manager.overview import to_overview
from deeper_tasks.worker.host import describe_node

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE = timedelta(seconds=20)


def record(name="elsewhere", *, beat_at=NOW, is_lost=False, node=None, **queues):
    there = Node(id=NodeId(name), name=name, host="other", boot="", pid=1, pid_started="", queues=queues)
    return NodeRecord(node=node or there, beat=1, busy=1, registered_at=NOW, beat_at=beat_at, is_lost=is_lost)


def view(*records, **queues):
    return to_overview(Counts(queues=queues, nodes=records, now=NOW), lease=LEASE)


def test_states_are_gathered_into_what_an_operator_asks_for():
    by_state = dict.fromkeys(State, 1) | {State.PENDING: 7}
    counts = QueueCounts(by_state=by_state, ended_today={State.FAILED: 2, State.DISCARDED: 3, State.COMPLETED: 4})
    queue = view(emails=counts).queues[0]
    assert (queue.pending, queue.running, queue.later, queue.dead) == (7, 1, 3, 2)
    assert (queue.failed_today, queue.completed_today) == (5, 4)


def test_only_living_workers_serve_a_queue():
    silent = record("silent", beat_at=NOW - LEASE * 2, emails=5)
    lost = record("lost", is_lost=True, emails=5)
    found = view(record("one", emails=3, default=1), record("two", emails=2), silent, lost)
    assert {queue.name: (queue.workers, queue.slots) for queue in found.queues} == {"default": (1, 1), "emails": (2, 5)}
    assert {worker.id: worker.is_alive for worker in found.workers} == {
        "one": True,
        "two": True,
        "silent": False,
        "lost": False,
    }


def test_a_pattern_serves_the_queues_that_have_jobs_and_is_no_queue():
    nothing = QueueCounts(by_state={}, ended_today={})
    patterns = record("one", **{"*": 7, "tenant-*": 2, "tenant-vip": 1})
    found = view(
        patterns, record("two", **{"tenant-*": 3}), **dict.fromkeys(["emails", "tenant-1", "tenant-vip"], nothing)
    )
    assert {queue.name: (queue.workers, queue.slots) for queue in found.queues} == {
        "emails": (1, 7),
        "tenant-1": (2, 5),
        "tenant-vip": (2, 4),
    }
    assert [worker.slots for worker in found.workers] == [10, 3]


@pytest.mark.skipif(not describe_node("here", {}).boot, reason="this system does not tell which process is which")
def test_a_worker_whose_process_has_ended_on_this_machine_is_not_alive():
    here = describe_node("here", {"default": 1})
    ended = Node(
        id=NodeId("ended"),
        name="ended",
        host=here.host,
        boot=here.boot,
        pid=2**22 + 1,
        pid_started="1",
        queues={"default": 1},
    )
    found = view(record(node=here), record(node=ended))
    assert [worker.is_alive for worker in found.workers] == [True, False]


async def test_a_manager_shows_its_queues_and_who_serves_them(manager, working, wait_until):
    @manager.task(queue="emails", name="shop.send")
    async def send() -> None: ...

    await manager.schedule_task(send, scheduled_at=3600)
    await manager.pause_queue("emails")
    async with working(manager, {"emails": 3, "default": 1}):
        await wait_until(manager.backend.nodes)
        overview = await manager.get_overview()
    queues = {queue.name: queue for queue in overview.queues}
    assert queues.keys() == {"default", "emails"}
    assert (queues["emails"].later, queues["emails"].slots, queues["emails"].workers) == (1, 3, 1)
    assert queues["emails"].paused_at is not None
    worker = overview.workers[0]
    assert (worker.is_alive, worker.slots, worker.queues) == (True, 4, {"emails": 3, "default": 1})


async def test_many_jobs_tell_how_far_their_change_is(manager):
    @manager.task(name="shop.send")
    async def send(number: int) -> None: ...

    await manager.enqueue_many([send.call(number) for number in range(1_201)])
    told = []
    assert await manager.cancel_tasks(queue="default", on_progress=told.append) == 1_201
    assert told == [500, 1_000, 1_201]
    told.clear()
    assert await manager.retry_tasks(status="cancelled", on_progress=told.append) == 1_201
    assert told == [500, 1_000, 1_201]
    told.clear()
    assert await manager.delete_tasks(queue="default", on_progress=told.append) == 1_201
    assert told == [500, 1_000, 1_201]
