"""A producer process: enqueues without end, and prints each id as soon as the enqueue has returned."""

from __future__ import annotations

import asyncio
import os
import sys

from deeper_tasks import BackgroundTaskManager
from workshop.tasks import nap

BATCH = 50


def _print(line: str) -> None:
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def _enqueue_one_by_one(manager: BackgroundTaskManager) -> None:
    while True:
        _print(await manager.enqueue_task(nap))


async def _enqueue_batches(manager: BackgroundTaskManager) -> None:
    number = 0
    while True:
        number += 1
        call = nap.with_options(tags=[f"batch {number}"]).call()
        await manager.enqueue_many([call] * BATCH)
        _print(f"batch {number}")


async def produce(how: str) -> None:
    """Enqueue until killed."""
    async with BackgroundTaskManager.from_settings() as manager:
        await (_enqueue_one_by_one if how == "one" else _enqueue_batches)(manager)


if __name__ == "__main__":
    asyncio.run(produce(sys.argv[1]))
