"""The scenario of the demonstration: enqueues jobs, runs a worker, and passes the jobs' states to a display."""

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

Display = Callable[[Sequence[TaskStatus]], None]
"""Called with all jobs, ten times a second."""

_LOOK_EVERY = 0.1
_TICKS = 7
_LONGEST = 30.0


class Step(Struct, frozen=True, kw_only=True):
    """One job of the scenario: its call, its delay in seconds, and its expected last state."""

    call: Any
    delay: float = 0.0
    end: State = State.COMPLETED


class Result(Struct, frozen=True, kw_only=True):
    """The result of the scenario; `is_good` if each job ended as expected, in time."""

    jobs: tuple[TaskStatus, ...]
    states: dict[State, int]
    seconds: float
    is_good: bool


async def play(url: str, display: Display) -> Result:
    """Run the scenario on an empty store in this process; return when all jobs have ended, or after half a minute."""
    tasks.manager.use_store(url)
    begun = time.monotonic()
    with _silence():
        async with tasks.manager as manager, _working(manager):
            wanted = {await _enqueue(step): step.end for step in _steps()}
            await manager.schedule_recurring_task("demo-tick", tasks.tick, cron_expression="* * * * * *")
            jobs: tuple[TaskStatus, ...] = ()
            is_good = False
            while not is_good and time.monotonic() - begun < _LONGEST:
                await asyncio.sleep(_LOOK_EVERY)
                jobs = (await manager.list_tasks(per_page=200, descending=False)).entries
                display(jobs)
                is_good = _has_ended_well(jobs, wanted)
    states = Counter(job.status for job in jobs)
    return Result(jobs=jobs, states=dict(states), seconds=time.monotonic() - begun, is_good=is_good)


def _steps() -> list[Step]:
    mails = [Step(call=tasks.send_mail.call(f"{name}@example.org")) for name in ("ada", "grace", "edsger", "barbara")]
    return [
        *mails,
        Step(call=tasks.ask_weather.call("Lisbon")),
        Step(call=tasks.charge_card.call("4711"), end=State.DISCARDED),
        Step(call=tasks.build_report.call(40)),
        Step(call=tasks.count_primes.call(200_000)),
        Step(call=tasks.remind.call("tea"), delay=4.0),
    ]


async def _enqueue(step: Step) -> str:
    return await tasks.manager.enqueue_task(step.call.task, args=step.call.args, delay_seconds=step.delay)


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
        # The second stop releases running jobs at once, so that the demonstration does not wait for them.
        worker.stop()
        worker.stop()
        await running


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the worker's log off the screen, which shows the failing jobs already."""
    logger = logging.getLogger("deeper_tasks")
    quiet, propagates = logging.NullHandler(), logger.propagate
    logger.addHandler(quiet)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(quiet)
