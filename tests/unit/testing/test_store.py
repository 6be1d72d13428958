"""The store of a test: a manager is lent to it, and comes back as it was."""

import asyncio
import gc
import threading

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.state import State
from deeper_tasks.testing import use_memory, use_store


def with_task(manager):
    @manager.task(name="shop.double")
    async def double(number: int):
        return 2 * number

    return double


async def test_a_manager_comes_back_to_its_own_store(url):
    async with BackgroundTaskManager(url) as manager:
        double, own = with_task(manager), manager.backend
        real = await double.enqueue(1)
        with use_memory(manager) as kit:
            assert manager.backend is kit.faults
            fake = await double.enqueue(2)
            assert [status.id for status in await kit.all_enqueued()] == [fake]
        assert manager.backend is own
        assert [status.id for status in (await manager.list_tasks()).entries] == [real]


async def test_it_comes_back_open_or_closed_as_it_was(manager):
    with use_memory(manager):
        async with manager:
            await with_task(manager).enqueue(1)
    assert not manager.core.parts.store.is_open


async def test_it_comes_back_from_a_test_that_fails(manager):
    own = manager.core.parts
    with pytest.raises(ZeroDivisionError), use_memory(manager) as kit, kit.inline():
        1 / 0  # noqa: B018 - what fails in a test
    assert manager.core.parts is own


async def test_each_use_is_a_store_of_its_own_and_uses_may_stand_in_each_other(manager):
    double = with_task(manager)
    with use_memory(manager) as outer:
        await double.enqueue(1)
        with use_memory(manager) as inner:
            await inner.refute_enqueued(double)
        await outer.assert_enqueued(double, count=1)


async def test_the_store_outlives_a_manager_that_is_closed_meanwhile(manager):
    double = with_task(manager)
    with use_memory(manager) as kit:
        async with manager:
            await double.enqueue(1)
        assert (await kit.drain()).completed == 1


async def test_what_a_test_registers_stays(manager):
    with use_memory(manager):
        double = with_task(manager)
    assert manager.registry.get("shop.double") is double


async def test_a_manager_that_is_switched_off_runs_in_a_test():
    manager = BackgroundTaskManager("sqlite:///never.db", enabled=False)
    double = with_task(manager)
    with use_memory(manager) as kit:
        await double.enqueue(1)
        assert (await kit.drain()).completed == 1


async def test_any_store_can_have_the_time_of_a_test(manager, tmp_path):
    double = with_task(manager)
    backend = SQLiteBackend(tmp_path / "test.db")
    with use_store(manager, backend) as kit:
        later = await double.with_options(delay_seconds=3600).enqueue(1)
        unique = await double.with_options(unique_for_seconds=60).enqueue(2)
        await manager.schedule_recurring_task("tick", double, args=[3], cron_expression="@every 30m")
        await kit.assert_enqueued(double, args=[1], status="scheduled")
        summary = await kit.advance(hours=1)
        assert summary.ids()[0] == unique
        assert summary.completed == 4
        assert (await manager.get_task_status(later)).finished_at == kit.now
        with kit.inline():
            assert await manager.result(await double.enqueue(21)) == 42
    await backend.close()


async def test_a_memory_store_takes_its_time_from_the_clock_it_is_given(manager):
    with use_memory(manager) as kit:
        assert isinstance(kit.store, MemoryBackend)
        await kit.advance(days=400)
        task_id = await with_task(manager).enqueue(1)
        await kit.drain()
        status = await manager.get_task_status(task_id)
        assert (status.inserted_at, status.finished_at, status.status) == (kit.now, kit.now, State.COMPLETED)


def test_nothing_is_left_of_the_threads_and_loops_of_a_test(manager):
    double = with_task(manager)
    before = set(threading.enumerate())
    with use_memory(manager) as kit:
        manager.sync.enqueue_task(double, args=[1])
        assert kit.sync.drain().completed == 1
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert {"deeper-sync", "deeper-testing"} <= names
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
    gc.collect()


def test_a_blocking_facade_that_was_there_before_goes_on(manager):
    double = with_task(manager)
    sync = manager.sync
    with use_memory(manager):
        sync.enqueue_task(double, args=[1])
    with use_memory(manager):
        sync.enqueue_task(double, args=[1])
        assert manager.sync is sync
    sync._loop.stop()


def test_a_kit_serves_several_loops_in_turn(manager):
    double = with_task(manager)
    with use_memory(manager) as kit:
        for number in range(3):
            asyncio.run(double.enqueue(number))
        assert asyncio.run(kit.drain()).completed == 3


def test_a_name_that_is_not_there_is_an_attribute_error():
    import deeper_tasks.testing

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = deeper_tasks.testing.nonsense
