"""A program that uses its manager before and after a fork."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable
from functools import cache

from deeper_tasks import BackgroundTaskManager
from workshop.tasks import nap

CHILDREN = 3
CROWD = 6
EACH = 50

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


def die_while_writing() -> None:
    """Fork a child that lives on, as `multiprocessing` does, and end in the middle of a write."""
    manager = BackgroundTaskManager.from_settings()
    manager.sync.enqueue_task(nap)
    if os.fork() == 0:
        signal.pause()

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM deeper_job")
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(manager.backend._write(write))  # type: ignore[attr-defined]


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
        case "die":
            die_while_writing()
        case "close":
            close_before_the_child_writes()
        case how:
            enqueue_around_a_fork(how)
