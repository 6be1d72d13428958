"""The producer: enqueues work of every kind, never far ahead of the workers: `producer JOBS SEED`."""

from __future__ import annotations

import asyncio
import sys
import time
from random import Random

from deeper_tasks.tasks import TaskCall
from proofs.soak import app
from proofs.soak.journal import Acknowledgement, acknowledge

_MOST_WAITING = 200
_MOST_AT_ONCE = 40
_LOOK = 0.05
_KEYS = 20


async def produce(jobs: int, random: Random) -> None:
    """Send so many enqueues, one by one and in bulk, and note each that returned."""
    async with app.manager:
        while jobs:
            while await _waiting() > _MOST_WAITING:  # noqa: ASYNC110 - the workers are other processes
                await asyncio.sleep(_LOOK)
            size = min(jobs, random.choice((1, 1, random.randint(2, _MOST_AT_ONCE))))
            calls = [_call(random) for _ in range(size)]
            before = time.monotonic()
            ids = await app.manager.enqueue_many(calls)
            acknowledge(
                [
                    Acknowledgement(job=str(job), is_new=job.is_new, not_before=before + _delay(call), key=_key(call))
                    for job, call in zip(ids, calls, strict=True)
                ]
            )
            jobs -= size


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


def _delay(call: TaskCall) -> float:
    delay = call.request.delay
    return 0.0 if delay is None else delay.total_seconds()


def _key(call: TaskCall) -> str | None:
    return str(call.args[0]) if call.task is app.nap_alone else None


if __name__ == "__main__":
    asyncio.run(produce(int(sys.argv[1]), Random(sys.argv[2])))
