"""Threads of the system, where the usual ones are taken away."""

import _thread
import asyncio
import sys
import threading
import types

import pytest

from deeper_tasks import BackgroundTaskManager, native
from deeper_tasks.errors import UnsupportedError


@pytest.fixture
def _patched(monkeypatch):
    """Have no thread start but those of the system, as if others had been put in their place."""

    def refuse(*_):
        raise AssertionError("a greenlet was started")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    monkeypatch.setattr(threading, "_start_new_thread", refuse)


@pytest.fixture(params=["sqlite", "memory"])
def manager(request, tmp_path):
    return BackgroundTaskManager(f"sqlite:///{tmp_path}/tasks.db" if request.param == "sqlite" else "memory://")


@pytest.mark.usefixtures("_patched")
def test_blocking_calls_work_where_threads_are_replaced_and_leave_the_callers_thread_without_a_loop(manager):
    @manager.task(name="shop.double")
    def double(number: int) -> int:
        return 2 * number

    job = double.sync.enqueue(21)
    assert manager.sync.get_task_status(job).status == "pending"
    with pytest.raises(TimeoutError, match="had not ended"):
        manager.sync.result(job, timeout=0.01)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    manager.sync.close()


@pytest.mark.usefixtures("_patched")
async def test_a_worker_is_refused_where_threads_are_replaced(manager):
    with pytest.raises(UnsupportedError, match="start `deeper worker` by itself"):
        await manager.run_worker()


def test_under_uwsgi_without_threads_the_error_names_the_option(manager, monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(has_threads=0))
    with pytest.raises(UnsupportedError, match="--enable-threads"):
        manager.sync.get_statistics()
    monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(has_threads=1))
    assert manager.sync.get_statistics().queues == {}
    manager.sync.close()


@pytest.mark.usefixtures("_patched")
def test_a_bare_thread_is_joined_when_it_has_ended():
    ran = []
    thread = native.make_thread(lambda: ran.append(native.get_ident()), name="any")
    thread.start()
    thread.join()
    assert len(ran) == 1
    assert ran != [native.get_ident()]
