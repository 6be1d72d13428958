"""The overview: the queues and the workers one by one."""

from datetime import UTC, datetime, timedelta

import pytest

from deeper_tasks.backends.protocol import Counts, HeldJobs, Node, NodeRecord, QueueCounts
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.state import State
from deeper_tasks.manager.overview import to_overview
from deeper_tasks.manager.views import to_statistics
from deeper_tasks.worker.liveness.host import describe_node

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE = timedelta(seconds=20)


def record(name="elsewhere", *, beat_at=NOW, is_lost=False, node=None, **queues):
    there = Node(id=NodeId(name), name=name, host="other", scope="", pid=1, pid_started="", queues=queues)
    return NodeRecord(node=node or there, beat=1, busy=1, registered_at=NOW, beat_at=beat_at, is_lost=is_lost)


def view(*records, held=(), **queues):
    return to_overview(Counts(queues=queues, nodes=records, now=NOW, held=held), lease=LEASE)


def figures(*records, held=(), **queues):
    return to_statistics(Counts(queues=queues, nodes=records, now=NOW, held=held), lease=LEASE)


def holding(node, queue="emails", *, claimed, begun=0):
    return HeldJobs(node=NodeId(node), queue=queue, claimed=claimed, begun=begun)


def test_states_are_gathered_into_what_an_operator_asks_for():
    by_state = dict.fromkeys(State, 1) | {State.PENDING: 7}
    counts = QueueCounts(by_state=by_state, ended_today={State.FAILED: 2, State.DISCARDED: 3, State.COMPLETED: 4})
    queue = view(emails=counts, held=[holding("one", claimed=1, begun=1)]).queues[0]
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


def test_workers_that_were_killed_are_no_workers_and_their_slots_no_idle_slots():
    killed = [record("silent", beat_at=NOW - LEASE * 2, emails=5), record("lost", is_lost=True, emails=5)]
    counts = QueueCounts(by_state={State.RUNNING: 3}, ended_today={})
    seen = figures(*killed, held=[holding("silent", claimed=3, begun=3)], emails=counts)
    summary = seen.workers_summary
    assert (summary.workers, summary.total_busy, summary.total_idle) == (0, 0, 0)
    assert seen.queues["emails"].running == 3
    summary = figures(record("alive", emails=4), *killed, emails=counts).workers_summary
    assert (summary.workers, summary.total_busy, summary.total_idle) == (1, 0, 4)


def test_what_is_claimed_ahead_of_its_turn_is_pending_for_all_who_ask():
    counts = QueueCounts(by_state={State.RUNNING: 120, State.PENDING: 5}, ended_today={})
    # The one has begun its jobs; those of the other are too short to be told of.
    held = [holding("one", claimed=20, begun=2), holding("two", claimed=100)]
    fleet = [record("one", emails=2), record("two", emails=3)]
    [queue], workers = view(*fleet, held=held, emails=counts).queues, view(*fleet, held=held, emails=counts).workers
    assert (queue.pending, queue.running) == (120, 5)
    assert [worker.busy for worker in workers] == [2, 3]
    seen = figures(*fleet, held=held, emails=counts)
    assert (seen.queues["emails"].pending, seen.queues["emails"].running) == (120, 5)
    assert (seen.workers_summary.total_busy, seen.workers_summary.total_idle) == (5, 0)


def test_the_queues_of_a_pattern_share_its_slots():
    tenants = {name: QueueCounts(by_state={State.RUNNING: 4}, ended_today={}) for name in ("tenant-1", "tenant-2")}
    held = [holding("one", name, claimed=4) for name in tenants]
    found = view(record("one", **{"tenant-*": 5, "tenant-2": 1}), held=held, **tenants)
    assert {queue.name: (queue.workers, queue.slots, queue.running) for queue in found.queues} == {
        "tenant-1": (1, 5, 4),
        "tenant-2": (1, 1, 1),
    }
    assert found.workers[0].busy == 5


def test_the_error_rate_is_the_share_of_failures_in_all_ends():
    emails = QueueCounts(
        by_state={},
        ended_today={State.FAILED: 1, State.DISCARDED: 2, State.CANCELLED: 4, State.COMPLETED: 5},
        ended_last_hour={State.COMPLETED: 2, State.DISCARDED: 2},
    )
    seen = figures(emails=emails, quiet=QueueCounts(by_state={}, ended_today={State.COMPLETED: 12}))
    queue, quiet = seen.queues["emails"], seen.queues["quiet"]
    assert (queue.ended_today, queue.failed_today, queue.error_rate_today) == (12, 3, 0.25)
    assert (queue.ended_last_hour, queue.failed_last_hour, queue.error_rate_last_hour) == (4, 2, 0.5)
    assert (quiet.error_rate_today, quiet.error_rate_last_hour) == (0, None)
    assert (seen.error_rate_today, seen.error_rate_last_hour) == (0.125, 0.5)


@pytest.mark.skipif(not describe_node("here", {}).scope, reason="this system does not tell which process is which")
def test_a_worker_whose_process_has_ended_on_this_machine_is_not_alive():
    here = describe_node("here", {"default": 1})
    ended = Node(
        id=NodeId("ended"),
        name="ended",
        host=here.host,
        scope=here.scope,
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
    await manager.queues.pause("emails")
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
