"""The story of the demonstration: jobs are enqueued, a worker runs them, and an audience sees it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from msgspec import Struct

from deeper_tasks import BackgroundTaskManager, State, TaskStatus
from deeper_tasks.cli.commands.demo import tasks

Audience = Callable[[Sequence[TaskStatus]], None]
"""Shown all jobs, again and again."""

_LOOK_EVERY = 0.1
_TICKS = 7
_LONGEST = 30.0


class Act(Struct, frozen=True, kw_only=True):
    """One job of the story, and how it must end."""

    call: Any
    delay: float = 0.0
    end: State = State.COMPLETED


class Ending(Struct, frozen=True, kw_only=True):
    """How the story ended: `is_good` if each job ended as it should, in time."""

    jobs: tuple[TaskStatus, ...]
    states: dict[State, int]
    seconds: float
    is_good: bool


async def play(url: str, audience: Audience) -> Ending:
    """Play it on an empty store, in this process; returns when all jobs have ended, or after half a minute."""
    tasks.manager.use_store(url)
    begun = time.monotonic()
    with _silence():
        async with tasks.manager as manager, _working(manager):
            wanted = {await _enqueue(act): act.end for act in _acts()}
            await manager.schedule_recurring_task("demo-tick", tasks.tick, cron_expression="* * * * * *")
            jobs: tuple[TaskStatus, ...] = ()
            is_good = False
            while not is_good and time.monotonic() - begun < _LONGEST:
                await asyncio.sleep(_LOOK_EVERY)
                jobs = (await manager.list_tasks(per_page=200, descending=False)).entries
                audience(jobs)
                is_good = _has_ended_well(jobs, wanted)
    states = Counter(job.status for job in jobs)
    return Ending(jobs=jobs, states=dict(states), seconds=time.monotonic() - begun, is_good=is_good)


def _acts() -> list[Act]:
    mails = [Act(call=tasks.send_mail.call(f"{name}@example.org")) for name in ("ada", "grace", "edsger", "barbara")]
    return [
        *mails,
        Act(call=tasks.ask_weather.call("Lisbon")),
        Act(call=tasks.charge_card.call("4711"), end=State.DISCARDED),
        Act(call=tasks.build_report.call(40)),
        Act(call=tasks.count_primes.call(200_000)),
        Act(call=tasks.remind.call("tea"), delay=4.0),
    ]


async def _enqueue(act: Act) -> str:
    return await tasks.manager.enqueue_task(act.call.task, args=act.call.args, delay_seconds=act.delay)


def _has_ended_well(jobs: Sequence[TaskStatus], wanted: dict[str, State]) -> bool:
    states = {job.id: job.status for job in jobs}
    ticks = sum(job.task == tasks.tick.name and job.status is State.COMPLETED for job in jobs)
    return ticks >= _TICKS and all(states.get(job_id) is end for job_id, end in wanted.items())


@asynccontextmanager
async def _working(manager: BackgroundTaskManager) -> AsyncIterator[None]:
    started = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(manager.run_worker(handle_signals=False, on_start=started.set_result))
    await asyncio.wait([running, started], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    worker = await started
    try:
        yield
    finally:
        # Twice: what still runs is given back at once, nobody waits for the next tick.
        worker.stop()
        worker.stop()
        await running


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the worker's log off the screen: its warnings about failing jobs are what is shown anyway."""
    logger = logging.getLogger("deeper_tasks")
    quiet, propagates = logging.NullHandler(), logger.propagate
    logger.addHandler(quiet)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(quiet)
