"""A program that uses its manager before and after a fork."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import psycopg

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import BackendError
from workshop.tasks import nap

CHILDREN = 3
CROWD = 6
EACH = 50

_CALLS = {"x86_64": ("202", {"232", "281"}), "aarch64": ("98", {"22"})}
"""Numbers of system calls: futex; epoll_wait and epoll_pwait."""

Enqueue = Callable[[BackgroundTaskManager], list[str]]


@cache
def _manager() -> BackgroundTaskManager:
    return BackgroundTaskManager.from_settings()


def _print(ids: Iterable[str]) -> None:
    os.write(sys.stdout.fileno(), "".join(f"{each}\n" for each in ids).encode())


def _enqueue_sync(manager: BackgroundTaskManager) -> list[str]:
    return [manager.sync.enqueue_task(nap) for _ in range(EACH)]


def _enqueue_async(manager: BackgroundTaskManager) -> list[str]:
    async def enqueue() -> list[str]:
        return [await manager.enqueue_task(nap) for _ in range(EACH)]

    return [str(each) for each in asyncio.run(enqueue())]


def enqueue_around_a_fork(how: str) -> None:
    """Enqueue in the parent, fork, then enqueue in all at the same time; prints the ids of all jobs."""
    manager = BackgroundTaskManager.from_settings()
    enqueue = _enqueue_sync if how == "sync" else _enqueue_async
    ids = enqueue(manager)
    children: list[int] = []
    for _ in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            ids, children = [], []
            break
        children.append(pid)
    ids += enqueue(manager)
    manager.sync.close()
    _print(ids)
    codes = [os.waitpid(child, 0)[1] for child in children]
    if any(codes):
        sys.exit(f"the children ended with {codes}")


def close_before_the_child_writes() -> None:
    """Fork a child that enqueues before and after its parent has closed the store; prints the ids of its jobs."""
    manager = BackgroundTaskManager.from_settings()
    _enqueue_sync(manager)
    from_parent, to_child = os.pipe()
    from_child, to_parent = os.pipe()
    child = os.fork()
    if child == 0:
        ids = _enqueue_sync(manager)
        os.write(to_parent, b"!")
        os.read(from_parent, 1)
        ids += _enqueue_sync(manager)
        _print(ids)
        os._exit(0)
    os.read(from_child, 1)
    manager.sync.close()
    os.write(to_child, b"!")
    sys.exit(os.waitpid(child, 0)[1])


def fork_without_hooks() -> None:
    """
    Fork children by C code, which runs no at-fork hooks, as uWSGI does; all enter the manager by another door.

    They go on after the parent has closed the store. Prints the ids of all jobs.
    """
    manager = _manager()
    ids = _enqueue_sync(manager)
    manager.sync.list_tasks()
    from_parent, to_child = os.pipe()
    from_child, to_parent = os.pipe()
    children: list[int] = []
    for enter in (_enqueue_by_task, _enqueue_async, _enqueue_joined, _look_and_control):
        child = _silent_fork()
        if child == 0:
            os.close(to_child)
            ids = enter(manager)
            os.write(to_parent, b"!")
            os.read(from_parent, 1)
            ids += _enqueue_sync(manager)
            _print(ids)
            os._exit(0 if manager.sync.list_tasks(per_page=1).total_entries >= len(ids) else 1)
        children.append(child)
    for _ in children:
        assert os.read(from_child, 1)
    ids += _enqueue_sync(manager)
    manager.sync.close()
    os.close(to_child)
    _print(ids)
    sys.exit(max(os.waitpid(child, 0)[1] for child in children))


def fork_without_hooks_in_a_write() -> None:
    """Fork by C code while another thread writes: the child is refused at once, and the parent goes on."""
    manager = _manager()
    _print(_enqueue_sync(manager)[:1])
    writes, may_end = threading.Event(), threading.Event()

    def write(_: sqlite3.Connection) -> None:
        writes.set()
        may_end.wait()

    writing = threading.Thread(target=lambda: asyncio.run(manager.backend._threads.write(write)))  # type: ignore[attr-defined]
    writing.start()
    writes.wait()
    child = _silent_fork()
    if child == 0:
        os._exit(0 if all(map(_is_refused, (manager, BackgroundTaskManager.from_settings()))) else 1)
    code = os.waitpid(child, 0)[1]
    may_end.set()
    writing.join()
    _print(_enqueue_sync(manager)[:1])
    sys.exit(code)


def _is_refused(manager: BackgroundTaskManager) -> bool:
    try:
        manager.sync.enqueue_task(nap)
    except BackendError as error:
        return "runs no at-fork hooks" in str(error)
    return False


def fork_without_hooks_and_crash() -> None:
    """Fork by C code; before the child's first call the parent closes the store, and another process dies in it."""
    manager = _manager()
    ids = _enqueue_sync(manager)
    read, write = os.pipe()
    child = _silent_fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        _print(_enqueue_sync(manager))
        os._exit(0)
    manager.sync.close()
    subprocess.run([sys.executable, "-m", "workshop.forker", "crash"], check=False)
    os.close(write)
    _print(ids)
    sys.exit(os.waitpid(child, 0)[1])


def enqueue_and_crash() -> None:
    """Enqueue, and be killed; prints the ids."""
    _print(_enqueue_sync(_manager()))
    os.kill(os.getpid(), signal.SIGKILL)


def _silent_fork() -> int:
    # A thread that waits for the interpreter's lock would leave that lock unusable in a copy without hooks.
    while not all(map(_rests, Path("/proc/self/task").iterdir())):
        pass
    # Unlike CDLL it keeps that lock, which the copy would have to wait for.
    return int(ctypes.PyDLL(None).fork())


def _rests(thread: Path) -> bool:
    """Whether a thread waits without a limit, and not for the interpreter's lock, which it asks for again and again."""
    futex, waits = _CALLS.get(os.uname().machine, ("", set()))
    if int(thread.name) == threading.get_native_id() or not futex:
        return True
    call = (thread / "syscall").read_text().split()
    return call[0] in waits or (call[0] == futex and call[4] == "0x0")


def _enqueue_by_task(manager: BackgroundTaskManager) -> list[str]:
    nap.bind(manager)
    return [nap.sync.enqueue() for _ in range(EACH)]


def _enqueue_joined(manager: BackgroundTaskManager) -> list[str]:
    url = manager.settings.url
    with ExitStack() as stack:
        connection: object
        if url.startswith("sqlite"):
            opened = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
            stack.callback(opened.close)
            connection = stack.enter_context(opened)
        else:
            connection = stack.enter_context(psycopg.connect(url))
        return [manager.sync.enqueue_task(nap, connection=connection) for _ in range(EACH)]


def _look_and_control(manager: BackgroundTaskManager) -> list[str]:
    assert manager.sync.get_statistics().queues["default"].pending >= EACH
    manager.sync.queues.pause("default")
    manager.sync.queues.resume("default")
    [ours] = [manager.sync.enqueue_task(nap, delay_seconds=3600)]
    manager.sync.run_task_now(ours)
    return [ours, *(manager.sync.enqueue_task(nap) for _ in range(EACH - 1))]


def die_while_writing() -> None:
    """Fork a child that lives on, as `multiprocessing` does, and end in the middle of a write."""
    manager = BackgroundTaskManager.from_settings()
    manager.sync.enqueue_task(nap)
    if os.fork() == 0:
        signal.pause()

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM deeper_job")
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(manager.backend._threads.write(write))  # type: ignore[attr-defined]


def fork_from_a_crowd() -> None:
    """Fork from one thread while others enqueue; the child's first calls come from many threads at once as well."""
    manager = _manager()
    ids: list[str] = []
    # Python's first loop of a process is made under a lock of Python's, which a child must not inherit held.
    asyncio.run(asyncio.sleep(0))
    before = _crowd(lambda enqueue: ids.extend(enqueue(manager)))
    child = os.fork()
    if child == 0:
        ids.clear()
        for thread in _crowd(lambda enqueue: ids.extend(enqueue(manager))):
            thread.join()
        _print(ids)
        os._exit(0 if len(ids) == CROWD * EACH else 1)
    for thread in before:
        thread.join()
    _print(ids)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _crowd(each: Callable[[Enqueue], None]) -> list[threading.Thread]:
    together = threading.Barrier(CROWD)

    def come(way: Enqueue) -> None:
        together.wait()
        each(way)

    ways = [_enqueue_sync, _enqueue_async] * (CROWD // 2)
    threads = [threading.Thread(target=come, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    return threads


async def fork_in_a_loop() -> int:
    """Fork in a running loop while it enqueues; the child blocks first, and then has a loop of its own."""
    manager = _manager()
    enqueuing = [asyncio.ensure_future(manager.enqueue_task(nap)) for _ in range(EACH)]
    _print([str(await enqueuing[0])])
    child = os.fork()
    if child == 0:
        # The parent's loop does not run here, and its calls never go on: to collect them must not reach the parent.
        enqueuing.clear()
        gc.collect()
        _print(_enqueue_sync(manager))
        _print(_enqueue_async(manager))
        os._exit(0)
    _print([str(each) for each in await asyncio.gather(*enqueuing[1:])])
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    return os.waitstatus_to_exitcode(status)


def fork_twice() -> None:
    """Fork a child that forks again and ends first, as a daemon does; all three enqueue."""
    manager = _manager()
    _print(_enqueue_sync(manager))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _print(_enqueue_sync(manager))
        if os.fork() == 0:
            # Until the child has ended, which closes its end of the pipe.
            os.close(write)
            os.read(read, 1)
            _print(_enqueue_sync(manager))
            _print(_enqueue_async(manager))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(write)
    _print(_enqueue_sync(manager))
    sys.exit(code)


def multiply(how: str) -> None:
    """Enqueue here and in processes that `multiprocessing` starts; what they inherit they use."""
    _print(_enqueue_sync(_manager()))
    context = multiprocessing.get_context(how)
    children = [context.Process(target=enqueue_and_print) for _ in range(CHILDREN)]
    for each in children:
        each.start()
    _print(_enqueue_async(_manager()))
    for each in children:
        each.join()
    sys.exit(max(each.exitcode or 0 for each in children))


def enqueue_and_print() -> None:
    """Enqueue with the manager of this process, or with the one that it has from its parent."""
    _print(_enqueue_sync(_manager()))


if __name__ == "__main__":
    match sys.argv[1]:
        case "crowd":
            # Threads change often: so they meet in the middle of what they do.
            sys.setswitchinterval(1e-5)
            fork_from_a_crowd()
        case "loop":
            sys.exit(asyncio.run(fork_in_a_loop()))
        case "twice":
            fork_twice()
        case "fork" | "forkserver" | "spawn" as start:
            multiply(start)
        case "silent":
            fork_without_hooks()
        case "silent while writing":
            fork_without_hooks_in_a_write()
        case "silent before a crash":
            fork_without_hooks_and_crash()
        case "crash":
            enqueue_and_crash()
        case "die":
            die_while_writing()
        case "close":
            close_before_the_child_writes()
        case how:
            enqueue_around_a_fork(how)
