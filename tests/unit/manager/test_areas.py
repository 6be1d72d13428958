"""The areas of the facade: flat functions and namespaces, and their blocking forms."""

import inspect
import logging

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.manager.areas import Area


@pytest.fixture
async def manager():
    async with BackgroundTaskManager("memory://") as manager:
        yield manager


def namespaces(holder):
    return {name: value for name, value in vars(holder).items() if isinstance(value, Area)}


def functions(holder):
    return {
        name: method
        for name, method in inspect.getmembers(holder, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "run_worker"
    }


def test_each_function_has_a_blocking_form_that_takes_and_returns_the_same(manager):
    pairs = [(manager, manager.sync)]
    pairs += [(area, getattr(manager.sync, name)) for name, area in namespaces(manager).items()]
    assert len(pairs) > 1
    for area, twin in pairs:
        for name, method in functions(area).items():
            blocking = getattr(twin, name)
            assert not inspect.iscoroutinefunction(blocking)
            assert (
                inspect.signature(blocking).parameters.keys() - {"self"} == inspect.signature(method).parameters.keys()
            )
            assert inspect.getdoc(blocking)


def test_each_namespace_is_an_area_of_the_same_core(manager):
    for area in namespaces(manager).values():
        assert area._core is manager.core
        assert inspect.getdoc(type(area))


def test_a_setting_that_is_assigned_to_a_namespace_is_refused_and_named(manager):
    for holder in (manager, manager.sync):
        with pytest.raises(AttributeError, match=r"queues cannot be assigned.*BackgroundTaskManager\(url, queues="):
            holder.queues = {"default": 3}
        assert holder.queues.pause


async def test_a_call_of_a_namespace_that_is_never_awaited_is_reported(manager, caplog):
    with caplog.at_level(logging.ERROR, "deeper_tasks"), pytest.warns(RuntimeWarning, match="never awaited"):
        manager.queues.pause("default")
    [record] = caplog.records
    assert "await manager.queues.pause(…)" in record.getMessage()
    assert "manager.sync.queues.pause(…)" in record.getMessage()


async def test_parts_are_exchanged_for_a_while_and_come_back_though_an_error_ends_it(manager):
    own, other = manager.core.parts, manager.core.assemble()

    def fail_on_others():
        with manager.core.exchanged(other):
            assert manager.backend is other.backend
            raise LookupError

    with pytest.raises(LookupError):
        fail_on_others()
    assert manager.core.parts is own


def test_exchanges_may_end_in_another_order_than_they_began_in(manager):
    core, own = manager.core, manager.core.parts
    parts = [core.assemble(), core.assemble()]
    first, second = map(core.exchanged, parts)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert core.parts is parts[1]
    second.__exit__(None, None, None)
    assert core.parts is own
