"""A program that uses its manager before and after a fork."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys

from deeper_tasks import BackgroundTaskManager
from workshop.tasks import nap

CHILDREN = 3
EACH = 50


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
    os.write(sys.stdout.fileno(), "".join(f"{each}\n" for each in ids).encode())
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
        os.write(sys.stdout.fileno(), "".join(f"{each}\n" for each in ids).encode())
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


if __name__ == "__main__":
    match sys.argv[1]:
        case "die":
            die_while_writing()
        case "close":
            close_before_the_child_writes()
        case how:
            enqueue_around_a_fork(how)
