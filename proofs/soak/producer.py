"""
The producer: enqueues work of every kind, never far ahead of the workers: `producer JOBS SEED`.

A store that does not answer is asked again, for the same jobs under the same ids.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar
from uuid import UUID

from msgspec.structs import replace

from deeper_tasks.domain.ids import JobId
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.tasks import TaskCall
from proofs.soak import app
from proofs.soak.journal import Acknowledgement, acknowledge

_MOST_WAITING = 200
_MOST_AT_ONCE = 40
_LOOK = 0.05
_KEYS = 8

T = TypeVar("T")


async def produce(jobs: int, random: Random) -> None:
    """Send so many enqueues, one by one and in bulk, and note each that returned."""
    try:
        while jobs:
            while await _answer_of(_waiting) > _MOST_WAITING:  # noqa: ASYNC110 - the workers are other processes
                await asyncio.sleep(_LOOK)
            size = min(jobs, random.choice((1, 1, random.randint(2, _MOST_AT_ONCE))))
            calls = [_with_id(_call(random), random) for _ in range(size)]
            before = time.monotonic()
            ids = await _answer_of(lambda calls=calls: app.manager.enqueue_many(calls))
            acknowledge(
                [
                    Acknowledgement(
                        job=str(job),
                        is_new=job == call.request.task_id,
                        not_before=before + _delay(call),
                        key=_key(call),
                    )
                    for job, call in zip(ids, calls, strict=True)
                ]
            )
            jobs -= size
    finally:
        await app.manager.close()


async def _answer_of(ask: Callable[[], Awaitable[T]]) -> T:
    """Return the store's answer, however often it has to be asked."""
    while True:
        try:
            return await ask()
        except BackendUnavailableError:
            await asyncio.sleep(_LOOK)


async def _waiting() -> int:
    queue = (await app.manager.get_statistics()).queues.get(app.WORK)
    return 0 if queue is None else queue.pending


def _call(random: Random) -> TaskCall:
    seconds = random.choice((0.0, random.uniform(0, 0.02), random.uniform(0, 0.02), random.uniform(0.05, 0.5)))
    plain = [app.nap.call(seconds)] * 10 + [app.nap_in_thread.call(seconds)] * 5 + [app.nap_in_process.call(seconds)]
    delayed = app.nap.with_options(delay_seconds=random.uniform(0.5, 2)).call(seconds)
    others = [app.fail_first.call(random.randint(1, 2)), app.lead.call(), delayed]
    seldom = random.choice((app.fail_always.call(), app.give_up.call()))
    return random.choice([*plain, *others, app.nap_alone.call(random.randrange(_KEYS)), seldom])


def _with_id(call: TaskCall, random: Random) -> TaskCall:
    task_id = JobId(str(UUID(int=random.getrandbits(128), version=4)))
    return replace(call, request=replace(call.request, task_id=task_id))


def _delay(call: TaskCall) -> float:
    delay = call.request.delay
    return 0.0 if delay is None else delay.total_seconds()


def _key(call: TaskCall) -> str | None:
    return str(call.args[0]) if call.task is app.nap_alone else None


if __name__ == "__main__":
    asyncio.run(produce(int(sys.argv[1]), Random(sys.argv[2])))
