"""The store of a test: a manager is lent to it, and comes back as it was."""

import asyncio
import gc
import threading

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.state import State
from deeper_tasks.testing import OverlapError, use_memory, use_store


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


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 0, 1)])
def test_uses_may_end_in_any_order_and_the_last_begun_holds(manager, order):
    own, double = manager.core.parts, with_task(manager)
    before = set(threading.enumerate())
    uses = [use_memory(manager) for _ in range(3)]
    open_kits = dict(enumerate([use.__enter__() for use in uses]))
    for number in order:
        double.sync.enqueue(number)
        open_kits[max(open_kits)].sync.assert_enqueued(double, args=[number])
        uses[number].__exit__(None, None, None)
        del open_kits[number]
    assert manager.core.parts is own
    assert set(threading.enumerate()) == before


async def test_a_second_test_at_the_same_time_is_refused_and_the_first_goes_on(manager):
    double = with_task(manager)
    own, begun = manager.core.parts, asyncio.Event()

    async def first():
        with use_memory(manager) as kit:
            begun.set()
            await refused.wait()
            await double.enqueue(1)
            await kit.assert_enqueued(double, count=1)

    async def second():
        await begun.wait()
        with pytest.raises(OverlapError, match=r"at the same time.*a manager of its own"), use_memory(manager):
            pass
        refused.set()

    refused = asyncio.Event()
    await asyncio.gather(first(), second())
    assert manager.core.parts is own


def test_a_second_thread_is_refused_while_the_first_lasts(manager):
    refused = []

    def overlap():
        try:
            with use_memory(manager):
                pass
        except OverlapError as error:
            refused.append(error)

    with use_memory(manager) as kit:
        in_thread(overlap).join()
        assert manager.backend is kit.faults
    assert len(refused) == 1
    in_thread(overlap).join()
    assert len(refused) == 1


async def test_a_task_that_a_test_starts_may_use_a_store_inside_that_of_the_test(manager):
    async def nested():
        with use_memory(manager) as inner:
            assert manager.backend is inner.faults

    with use_memory(manager) as outer:
        await asyncio.create_task(nested())
        await asyncio.to_thread(asyncio.run, nested())
        assert manager.backend is outer.faults


async def test_a_fixture_may_begin_and_end_in_tasks_of_their_own(manager):
    own, use = manager.core.parts, use_memory(manager)

    async def begin():
        use.__enter__()

    async def end():
        use.__exit__(None, None, None)

    await asyncio.create_task(begin())
    with use_memory(manager):
        pass
    await asyncio.create_task(end())
    assert manager.core.parts is own


async def test_a_cancelled_test_gives_the_manager_back(manager):
    own, begun = manager.core.parts, asyncio.Event()

    async def hang():
        with use_memory(manager) as kit, kit.inline():
            begun.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hang())
    await begun.wait()
    hanging.cancel()
    await asyncio.wait([hanging])
    assert manager.core.parts is own
    with use_memory(manager):
        pass


def test_a_generator_that_is_closed_late_takes_nothing_from_a_later_test(manager):
    def fixture():
        with use_memory(manager) as kit:
            yield kit

    own, late = manager.core.parts, fixture()
    next(late)
    with use_memory(manager) as kit:
        late.close()
        assert manager.backend is kit.faults
    assert manager.core.parts is own


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
