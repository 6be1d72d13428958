"""The application: work of every kind, which journals its runs. The environment names the store."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid5

from deeper_tasks import BackgroundTaskManager, Fail, State, current_job
from proofs.soak.journal import journalled_run

RETRY_DELAY = 0.05
WORK, TICKS = "default", "ticks"
"""The queues."""

manager = BackgroundTaskManager.from_settings()


class WantedError(Exception):
    """The error that a task raises by design."""


@manager.task
async def nap(seconds: float) -> None:
    """Sleep on the loop."""
    with journalled_run():
        await asyncio.sleep(seconds)


@manager.task
def nap_in_thread(seconds: float) -> None:
    """Sleep in a thread."""
    with journalled_run():
        time.sleep(seconds)


@manager.task(executor="process")
def nap_in_process(seconds: float) -> None:
    """Sleep in a process."""
    with journalled_run():
        time.sleep(seconds)


@manager.task(unique="until_done")
async def nap_alone(key: int) -> None:
    """Sleep, while no other job of this key may be there."""
    with journalled_run():
        await asyncio.sleep(key / 100)


@manager.task(retry_delay_seconds=RETRY_DELAY)
async def fail_first(times: int) -> None:
    """Fail in the first attempts."""
    with journalled_run():
        if current_job().attempt <= times:
            raise WantedError


@manager.task(retry_delay_seconds=RETRY_DELAY, max_attempts=2)
async def fail_always() -> None:
    """Fail, to be discarded in the end."""
    with journalled_run():
        raise WantedError


@manager.task
async def give_up() -> None:
    """Fail for good."""
    with journalled_run():
        raise Fail("by design")


@manager.task(retry_delay_seconds=RETRY_DELAY)
async def lead() -> None:
    """Enqueue a job that follows; a lead that is run again does not make another."""
    with journalled_run():
        await nap.with_options(task_id=follower_of(current_job().id)).enqueue(0.0)


@manager.task(cron="@every 1s", missed_runs="all", queue=TICKS)
async def tick() -> None:
    """Only be run."""
    with journalled_run():
        pass


ENDS = {give_up.name: State.FAILED, fail_always.name: State.DISCARDED}
"""How the jobs of a task end; all others complete."""


def follower_of(job: str) -> str:
    """Return the id of the job that a lead enqueues."""
    return str(uuid5(UUID(job), "follower"))
