"""The terms of transactions: where a transactional task cannot be, one is told so when it is defined."""

import math
import sys
import types

import pytest

from deeper_tasks import BackgroundTaskManager, current_job, task
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import InvalidOptionError, JobError, UnsupportedError


@pytest.fixture
async def manager(tmp_path):
    async with BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db") as manager:
        yield manager


def test_without_a_worker_there_is_no_connection():
    with pytest.raises(JobError, match="no current job"):
        _ = current_job().connection


def test_a_store_without_such_transactions_refuses_the_task_when_it_is_defined():
    manager = BackgroundTaskManager("memory://")
    with pytest.raises(UnsupportedError, match=r"'shop\.pay' is transactional, and the store 'memory://'.*sqlite"):

        @manager.task(name="shop.pay", transactional=True)
        async def pay():
            pass

    assert manager.registry.get("shop.pay") is None


@pytest.fixture
def module(monkeypatch):
    module = types.ModuleType("shop_of_payments")
    module.__file__ = __file__

    @task(name="shop_of_payments.pay", transactional=True)
    async def pay():
        pass

    module.pay = pay
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_so_it_does_when_the_task_is_included(module):
    manager = BackgroundTaskManager(backend=MemoryBackend())
    with pytest.raises(UnsupportedError, match="MemoryBackend"):
        manager.include(module)


async def test_so_it_does_when_the_task_is_enqueued_without_being_included(module):
    async with BackgroundTaskManager("memory://") as manager:
        with pytest.raises(UnsupportedError, match="transactional"):
            await manager.enqueue_task(module.pay)
        with pytest.raises(UnsupportedError, match="transactional"):
            await manager.enqueue_many([module.pay.call()])
        with pytest.raises(UnsupportedError, match="transactional"):
            await manager.enqueue_task("shop_of_payments", "pay")
        assert (await manager.list_tasks()).total_entries == 0


def test_so_it_does_when_the_store_is_changed(module):
    manager = BackgroundTaskManager("sqlite:///tasks.db")
    manager.include(module)
    with pytest.raises(UnsupportedError, match="transactional"):
        manager.use_store("memory://")
    assert manager.settings.url == "sqlite:///tasks.db"


async def test_where_tasks_are_switched_off_it_is_taken_like_all(module):
    async with BackgroundTaskManager("noop://") as manager:
        manager.include(module)
        assert (await module.pay.enqueue()).is_new


@pytest.mark.parametrize("timeout", [5.001, 3600, math.inf])
def test_a_timeout_longer_than_the_file_can_wait_is_refused(timeout):
    manager = BackgroundTaskManager("sqlite:///tasks.db")
    with pytest.raises(InvalidOptionError, match=r"timeout_seconds.*may take 5 s"):

        @manager.task(name="shop.pay", transactional=True, timeout_seconds=timeout)
        async def pay():
            pass


async def test_so_is_one_of_a_single_call(manager):
    @manager.task(name="shop.pay", transactional=True, timeout_seconds=5)
    async def pay():
        pass

    with pytest.raises(InvalidOptionError, match="timeout_seconds"):
        await pay.with_options(timeout_seconds=6).enqueue()
    with pytest.raises(InvalidOptionError, match="timeout_seconds"):
        await manager.schedule_recurring_task("tick", pay, cron_expression="@daily", timeout_seconds=math.inf)


@pytest.mark.parametrize(
    ("url", "lease", "seconds"), [("sqlite:///t.db?timeout=2", 20, 1), ("sqlite:///t.db?timeout=600", 60, 15)]
)
def test_the_limit_is_below_the_stores_timeout_and_well_below_the_lease(url, lease, seconds):
    manager = BackgroundTaskManager(url, lease_seconds=lease)

    @manager.task(name="shop.pay", transactional=True, timeout_seconds=seconds)
    async def pay():
        pass

    with pytest.raises(InvalidOptionError, match=f"may take {seconds} s"):
        manager.task(name="shop.refund", transactional=True, timeout_seconds=seconds + 0.1)(lambda: None)


def pay():
    pass


def test_a_process_cannot_have_the_connection():
    with pytest.raises(InvalidOptionError, match="executor='process'"):
        task(transactional=True, executor="process")(pay)


@pytest.mark.parametrize("given", ["yes", 1])
def test_transactional_is_true_or_false(given):
    with pytest.raises(InvalidOptionError, match="give True or False"):

        @task(name="shop.pay", transactional=given)
        async def pay():
            pass
