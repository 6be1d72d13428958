"""Conformance: counting jobs and their ends, and the workers that serve a queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deeper_tasks.backends.protocol import (
    MAX_NODE_TASKS,
    Backend,
    HeldJobs,
    JobFilter,
    QueueSettings,
)
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    join,
    new_node,
    only,
    put,
    put_ended,
    put_many,
    put_running,
    settle,
    take,
)


class StatisticsConformance:
    """The contract of `statistics`, `service`, `nodes` and `queues`."""

    async def test_statistics_count_the_jobs_of_each_queue_by_state(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 3, queue="one")
        await put(backend, queue="one", delay=MINUTE)
        await take(backend, node, queue="one", limit=2)
        await put(backend, queue="two")
        counts = await backend.statistics(now=NOW)
        shown = {
            name: {state: count for state, count in queue.by_state.items() if count}
            for name, queue in counts.queues.items()
        }
        assert shown == {
            "one": {State.PENDING: 1, State.SCHEDULED: 1, State.RUNNING: 2},
            "two": {State.PENDING: 1},
        }

    async def test_statistics_show_the_nodes(self, backend: Backend) -> None:
        node = new_node()
        await backend.register(node, now=NOW)
        await backend.beat(node.id, busy=2, now=NOW)
        [record] = (await backend.statistics(now=NOW)).nodes
        assert (record.node, record.busy) == (node, 2)
        assert [record] == await backend.nodes()

    async def test_what_ended_today_is_counted_by_utc_day(self, backend: Backend) -> None:
        node = await join(backend)
        midnight = datetime(2031, 5, 15, tzinfo=UTC)
        for end, moment in (
            (End.FAIL, midnight - SECOND),
            (End.FAIL, midnight),
            (End.DISCARD, midnight + MINUTE),
            (End.COMPLETE, midnight + MINUTE),
            (End.COMPLETE, midnight + timedelta(hours=23)),
            (End.RETRY, midnight + MINUTE),
        ):
            job = await put_running(backend, node)
            await settle(backend, [job], end, delay=MINUTE, now=moment)
        days = [
            (await backend.statistics(now=moment)).queues["default"].ended_today
            for moment in (midnight - SECOND, midnight + MINUTE, midnight + timedelta(days=1))
        ]
        counted = [{state: count for state, count in day.items() if count} for day in days]
        assert counted == [
            {State.FAILED: 1},
            {State.FAILED: 1, State.DISCARDED: 1, State.COMPLETED: 2},
            {},
        ]

    async def test_what_ended_in_the_last_hour_is_counted_by_ten_minutes(self, backend: Backend) -> None:
        node = await join(backend)
        for end, minutes in ((End.FAIL, 0), (End.COMPLETE, 10), (End.DISCARD, 59), (End.CANCEL, 60), (End.RETRY, 60)):
            job = await put_running(backend, node)
            await settle(backend, [job], end, delay=HOUR, now=NOW + minutes * MINUTE)
        hours = [
            (await backend.statistics(now=NOW + minutes * MINUTE)).queues["default"].ended_last_hour
            for minutes in (9, 60, 70, 119, 129)
        ]
        cancelled, late = {State.CANCELLED: 1}, {State.CANCELLED: 1, State.DISCARDED: 1}
        assert [{state: count for state, count in hour.items() if count} for hour in hours] == [
            {State.FAILED: 1},
            {State.FAILED: 1, State.COMPLETED: 1, **late},
            {State.COMPLETED: 1, **late},
            late,
            cancelled,
        ]

    async def test_the_last_hour_reaches_into_the_day_before(self, backend: Backend) -> None:
        midnight = datetime(2031, 5, 15, tzinfo=UTC)
        job = await put_running(backend, await join(backend))
        await settle(backend, [job], now=midnight - MINUTE)
        counts = (await backend.statistics(now=midnight + MINUTE)).queues["default"]
        assert (counts.ended_today.get(State.COMPLETED, 0), counts.ended_last_hour[State.COMPLETED]) == (0, 1)

    async def test_statistics_count_the_jobs_that_each_node_holds(self, backend: Backend) -> None:
        one, two = await join(backend), await join(backend)
        await put_many(backend, 9)
        first = await take(backend, one, limit=5)
        await take(backend, two, limit=4)
        await settle(backend, first[:1])
        held = {
            (each.node, each.queue): (each.claimed, each.begun) for each in (await backend.statistics(now=NOW)).held
        }
        assert held == {(one, "default"): (4, 4), (two, "default"): (4, 4)}

    async def test_the_service_of_a_queue_has_its_pause_the_nodes_and_the_jobs_they_hold(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        await put_many(backend, 3)
        await take(backend, node, limit=2)
        await backend.put_queue(QueueSettings(name="paused", paused_at=NOW))
        service = await backend.service("default", task="shop.send", now=NOW)
        assert (service.paused_at, service.now, list(service.nodes)) == (None, NOW, await backend.nodes())
        assert service.held == (HeldJobs(node=node, queue="default", claimed=2, begun=2),)
        assert (await backend.service("paused", task="shop.send", now=NOW)).paused_at == NOW

    async def test_a_node_tells_its_tasks_or_none(self, backend: Backend) -> None:
        async def knows_task(task: str) -> dict[NodeId, bool]:
            return (await backend.service("default", task=task, now=NOW)).knows_task

        many = frozenset(f"shop.task_{number}" for number in range(MAX_NODE_TASKS))
        silent, few, all_of_them, none = (new_node() for _ in range(4))
        await backend.register(silent, now=NOW)
        await backend.register(few, tasks=frozenset({"shop.send", "größe\n'\""}), now=NOW)
        await backend.register(all_of_them, tasks=many, now=NOW)
        await backend.register(none, tasks=frozenset(), now=NOW)
        assert await knows_task("shop.send") == {few.id: True, all_of_them.id: False, none.id: False}
        assert await knows_task("größe\n'\"") == {few.id: True, all_of_them.id: False, none.id: False}
        assert await knows_task("shop.task_1999") == {few.id: False, all_of_them.id: True, none.id: False}

    async def test_a_node_that_registers_again_has_other_tasks_and_is_the_same(self, backend: Backend) -> None:
        node = new_node()
        await backend.register(node, tasks=frozenset({"shop.send"}), now=NOW)
        before = await backend.nodes()
        await backend.register(node, tasks=frozenset({"shop.send", "shop.late"}), now=NOW + MINUTE)
        assert await backend.nodes() == before
        assert (await backend.service("default", task="shop.late", now=NOW)).knows_task == {node.id: True}
        await backend.register(node, now=NOW + MINUTE)
        assert (await backend.service("default", task="shop.late", now=NOW)).knows_task == {}

    async def test_the_tasks_of_a_node_go_with_it(self, backend: Backend) -> None:
        gone, dead = new_node(), new_node()
        for node in (gone, dead):
            await backend.register(node, tasks=frozenset({"shop.send"}), now=NOW)
        await backend.deregister(gone.id)
        await backend.rescue(dead.id, beat=0, now=NOW)
        assert (await backend.service("default", task="shop.send", now=NOW)).knows_task == {}
        await backend.register(gone, now=NOW)
        assert (await backend.service("default", task="shop.send", now=NOW)).knows_task == {}

    async def test_an_end_stays_counted_when_its_job_is_retried_or_deleted(self, backend: Backend) -> None:
        await backend.retry(only(await put_ended(backend, State.FAILED)), now=NOW)
        await take(backend, await join(backend))
        await backend.delete(only(await put_ended(backend, State.FAILED)))
        counts = (await backend.statistics(now=NOW)).queues["default"]
        assert {state: count for state, count in counts.ended_today.items() if count} == {State.FAILED: 2}

    async def test_every_way_to_end_is_counted_for_today(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend, expires_in=SECOND)
        await backend.expire(now=NOW + MINUTE)
        await put(backend)
        await backend.cancel(JobFilter(), reason="enough", now=NOW)
        await put_running(backend, node, max_attempts=1)
        [record] = await backend.nodes()
        await backend.rescue(node, beat=record.beat, now=NOW)
        ended = (await backend.statistics(now=NOW)).queues["default"].ended_today
        assert {state: count for state, count in ended.items() if count} == {
            State.FAILED: 1,
            State.CANCELLED: 1,
            State.DISCARDED: 1,
        }
