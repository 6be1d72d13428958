"""The chain: an application with a manager of its own, whose tasks enqueue others."""

from __future__ import annotations

from deeper_tasks import BackgroundTaskManager
from workshop import journal

manager = BackgroundTaskManager.from_settings()


@manager.task
def link_in_thread() -> str:
    """Enqueue from a thread."""
    journal.write("start")
    return manager.sync.enqueue_task(link_in_process)


@manager.task(executor="process")
def link_in_process() -> str:
    """Enqueue from a process."""
    journal.write("start")
    return manager.sync.enqueue_task(last_link)


@manager.task
async def first_link() -> str:
    """Enqueue from the loop."""
    journal.write("start")
    return await link_in_thread.enqueue()


@manager.task
async def last_link() -> None:
    """Enqueue nothing."""
    journal.write("start")
