"""The blocking manager: the facade for code that is not async, method for method."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from deeper_tasks.manager.manager import BackgroundTaskManager
from deeper_tasks.sync import LoopThread, blocking


class BlockingManager:
    """`manager.sync`: each method as in `BackgroundTaskManager`, blocking until it is done."""

    def __init__(self, manager: BackgroundTaskManager) -> None:
        self._behind = manager
        self._loop = LoopThread("deeper-sync")

    open = blocking(BackgroundTaskManager.open)
    migrate = blocking(BackgroundTaskManager.migrate)
    enqueue_task = blocking(BackgroundTaskManager.enqueue_task)
    schedule_task = blocking(BackgroundTaskManager.schedule_task)
    enqueue_many = blocking(BackgroundTaskManager.enqueue_many)
    schedule_recurring_task = blocking(BackgroundTaskManager.schedule_recurring_task)
    cancel_recurring_task = blocking(BackgroundTaskManager.cancel_recurring_task)
    list_recurring_tasks = blocking(BackgroundTaskManager.list_recurring_tasks)
    get_recurring_task = blocking(BackgroundTaskManager.get_recurring_task)
    run_recurring_task = blocking(BackgroundTaskManager.run_recurring_task)
    cancel_task = blocking(BackgroundTaskManager.cancel_task)
    cancel_tasks = blocking(BackgroundTaskManager.cancel_tasks)
    retry_task = blocking(BackgroundTaskManager.retry_task)
    retry_tasks = blocking(BackgroundTaskManager.retry_tasks)
    delete_task = blocking(BackgroundTaskManager.delete_task)
    delete_tasks = blocking(BackgroundTaskManager.delete_tasks)
    pause_queue = blocking(BackgroundTaskManager.pause_queue)
    resume_queue = blocking(BackgroundTaskManager.resume_queue)
    cleanup_old_tasks = blocking(BackgroundTaskManager.cleanup_old_tasks)
    get_task_status = blocking(BackgroundTaskManager.get_task_status)
    list_tasks = blocking(BackgroundTaskManager.list_tasks)
    get_statistics = blocking(BackgroundTaskManager.get_statistics)
    result = blocking(BackgroundTaskManager.result)

    def close(self) -> None:
        """Close the store, and the thread that these calls run in."""
        self._loop.run(self._behind.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
