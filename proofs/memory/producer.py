"""The producer: enqueues jobs in bulk and one by one, never far ahead of the worker: `producer JOBS mixed|plain`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

from deeper_tasks.tasks import Task
from proofs.memory.app import MIX, manager, noop

_BULK = 500
_SINGLES = 5
_MOST_WAITING = 10_000
_LOOK = 0.05


async def produce(jobs: int, tasks: Sequence[Task[..., Any]]) -> None:
    """Enqueue so many jobs."""
    kinds = cycle(tasks)
    made = 0
    async with manager:
        while made < jobs:
            while made and await _waiting() > _MOST_WAITING:  # noqa: ASYNC110 - the worker is another process
                await asyncio.sleep(_LOOK)
            for task in islice(kinds, min(_SINGLES, jobs - made)):
                await manager.enqueue_task(task, args=[made, "single"])
                made += 1
            size = min(_BULK, jobs - made)
            await manager.enqueue_many([task.call(number, "bulk") for number, task in enumerate(islice(kinds, size))])
            made += size


async def _waiting() -> int:
    return (await manager.get_statistics()).queues["default"].pending


if __name__ == "__main__":
    asyncio.run(produce(int(sys.argv[1]), MIX if sys.argv[2] == "mixed" else (noop,)))
