"""The application of a site: tasks that journal their runs. The environment names the store."""

from __future__ import annotations

import asyncio
import time

from deeper_tasks import BackgroundTaskManager
from proofs.production.journal import journalled_run

manager = BackgroundTaskManager.from_settings()


@manager.task
async def nap(seconds: float = 0) -> None:
    """Sleep on the loop."""
    with journalled_run():
        await asyncio.sleep(seconds)


@manager.task
def nap_in_thread(seconds: float = 0) -> None:
    """Sleep in a thread."""
    with journalled_run():
        time.sleep(seconds)


@manager.task(executor="process")
def nap_in_process(seconds: float = 0) -> None:
    """Sleep in a process of its own."""
    with journalled_run():
        time.sleep(seconds)
