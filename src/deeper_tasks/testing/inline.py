"""The inline producer: enqueues with a manager's own producer, and runs the new jobs before it returns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

from deeper_tasks.manager.parts import Parts
from deeper_tasks.manager.producer import Producer
from deeper_tasks.manager.recurring import RecurringTasks
from deeper_tasks.tasks import TaskId

Run = Callable[[Sequence[TaskId]], Awaitable[None]]


def inline(parts: Parts, *, run: Run) -> Parts:
    """Return a manager's parts, of which those that enqueue run each new job before they return."""
    return msgspec.structs.replace(
        parts,
        producer=cast("Producer", InlineProducer(parts.producer, run=run)),
        recurring=cast("RecurringTasks", InlineRecurringTasks(parts.recurring, run=run)),
    )


class InlineProducer:
    """Enqueues with another producer and runs what is new."""

    def __init__(self, inner: Producer, *, run: Run) -> None:
        self._inner = inner
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def enqueue(self, *args: Any, **options: Any) -> TaskId:
        """Enqueue one call, and run it."""
        task_id = await self._inner.enqueue(*args, **options)
        if task_id.is_new:
            await self._run([task_id])
        return task_id

    async def enqueue_many(self, *args: Any, **options: Any) -> list[TaskId]:
        """Enqueue calls, and run them in order."""
        task_ids = await self._inner.enqueue_many(*args, **options)
        await self._run([task_id for task_id in task_ids if task_id.is_new])
        return task_ids


class InlineRecurringTasks:
    """Runs a recurring task's job before it answers."""

    def __init__(self, inner: RecurringTasks, *, run: Run) -> None:
        self._inner = inner
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def run_now(self, *args: Any, **options: Any) -> TaskId:
        """Enqueue the job of a recurring task, and run it."""
        task_id = await self._inner.run_now(*args, **options)
        await self._run([task_id])
        return task_id
