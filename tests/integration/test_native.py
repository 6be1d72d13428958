"""Threads of the system, where the usual ones are taken away."""

import _thread
import asyncio
import os
import queue
import resource
import select
import selectors
import shutil
import socket
import sys
import threading
import time
import types
from contextlib import ExitStack
from functools import partial

import pytest

from deeper_tasks import BackgroundTaskManager, native
from deeper_tasks.backends.sqlite.hints import Hints
from deeper_tasks.errors import UnsupportedError
from deeper_tasks.sync import LoopThread


@pytest.fixture
def _patched(monkeypatch):
    """
    Have no thread start but those of the system, as if others had been put in their place.

    What is replaced with them may be used in the callers' threads alone: elsewhere nothing runs what it waits for.
    """
    misused = []

    def refuse(*_):
        raise AssertionError("a greenlet was started")

    def note(what):
        if _is_in_bare_thread():
            misused.append(what)

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    monkeypatch.setattr(threading, "_start_new_thread", refuse)
    monkeypatch.setattr(threading, "Lock", partial(_Lock, note))
    monkeypatch.setattr(socket, "socket", type("Socket", (_Socket,), {"note": staticmethod(note)}))
    for module, name in _REPLACED:
        monkeypatch.setattr(module, name, partial(_noted, note, f"{module.__name__}.{name}", getattr(module, name)))
    yield
    assert misused == []


class _Lock:
    def __init__(self, note):
        self._note = note
        self._lock = native.allocate_lock()

    def acquire(self, *args, **options):
        self._note("threading.Lock")
        return self._lock.acquire(*args, **options)

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    def __getattr__(self, name):
        return getattr(self._lock, name)


class _Socket(socket.socket):
    def __init__(self, *args, **options):
        self.note("socket.socket")
        super().__init__(*args, **options)

    def send(self, *args):
        self.note("socket.send")
        return super().send(*args)

    def recv(self, *args):
        self.note("socket.recv")
        return super().recv(*args)


_REPLACED = [
    *((os, name) for name in ("close", "read", "write", "fork", "waitpid")),
    *((select, name) for name in ("select", "poll", "epoll")),
    *((selectors, name) for name in ("DefaultSelector", "PollSelector", "SelectSelector")),
    *((socket, name) for name in ("socketpair", "getaddrinfo", "gethostbyname", "create_connection")),
    *((threading, name) for name in ("RLock", "Condition", "Event", "Timer", "local")),
    *((queue, name) for name in ("Queue", "SimpleQueue")),
    (time, "sleep"),
]


def _noted(note, what, function, *args, **options):
    note(what)
    return function(*args, **options)


def _is_in_bare_thread():
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code is native._BareThread._run.__code__


@pytest.fixture
def ear(tmp_path):
    """What a worker beside the database hears of."""
    # Of a long path, as pytest may give, it lies elsewhere.
    folder = Hints(tmp_path / "tasks.db")._folder
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(folder / "1-0000"))
        ear.setblocking(False)
        yield ear
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "memory"])
def store(request, tmp_path):
    if request.param == "postgres":
        # By the name of its host, which has to be found.
        return request.getfixturevalue("database_url").replace("127.0.0.1", "localhost")
    return f"sqlite:///{tmp_path}/tasks.db" if request.param == "sqlite" else "memory://"


@pytest.fixture
def manager(store):
    return BackgroundTaskManager(store)


@pytest.fixture
def thread():
    thread = LoopThread("any")
    yield thread
    thread.stop()


@pytest.fixture
def double(manager):
    @manager.task(name="shop.double")
    def double(number: int) -> int:
        return 2 * number

    return double


@pytest.mark.parametrize("store", ["sqlite", "memory", "postgres"], indirect=True)
@pytest.mark.usefixtures("_patched")
def test_blocking_calls_work_where_threads_are_replaced_and_use_nothing_that_is_replaced_with_them(
    store, ear, manager, double
):
    sync = manager.sync
    job = double.sync.enqueue(21)
    assert sync.get_task_status(job).status == "pending"
    with pytest.raises(TimeoutError, match="had not ended"):
        sync.result(job, timeout=0.01)
    assert len(sync.enqueue_many([double.call(1), double.call(2)])) == 2
    sync.schedule_recurring_task("hourly", "shop", "double", [1], cron_expression="0 * * * *")
    sync.pause_recurring_task("hourly")
    sync.queues.pause("default")
    sync.cancel_task(job)
    sync.retry_task(job)
    assert sync.list_tasks().total_entries == 3
    assert sync.get_statistics().queues
    sync.get_overview()
    sync.diagnose(deep=True)
    sync.cleanup_old_tasks()
    sync.compact_store()
    sync.delete_tasks(queue="default")
    if store != "memory://":
        sync.migration_script()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    sync.close()
    if "sqlite" in store:
        assert b"default" in ear.recv(4096)


@pytest.mark.usefixtures("_patched")
def test_a_blocking_call_that_is_interrupted_is_given_up_where_threads_are_replaced(thread, monkeypatch):
    begun, ended = native.allocate_lock(), native.allocate_lock()
    begun.acquire()
    ended.acquire()

    async def stay():
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    def interrupt(rest):
        rest._ended.close()
        assert begun.acquire(timeout=20)
        raise KeyboardInterrupt

    monkeypatch.setattr(native.Rest, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        thread.run(stay())
    assert ended.acquire(timeout=20)


@pytest.mark.usefixtures("_patched")
def test_blocking_calls_work_where_threads_are_replaced_and_descriptors_are_many(thread):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(2048, limits[0]), limits[1]))
    with ExitStack() as taken:
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(1024):
            taken.callback(native.close, os.dup(0))
        assert thread.run(asyncio.sleep(0, 42)) == 42


@pytest.mark.usefixtures("_patched")
async def test_a_worker_is_refused_where_threads_are_replaced(manager):
    with pytest.raises(UnsupportedError, match="start `deeper worker` in its own process"):
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
