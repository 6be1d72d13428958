"""The manager: the facade over tasks, jobs and workers, and the place where the parts are put together."""

from deeper_tasks.manager.blocking import BlockingFacade
from deeper_tasks.manager.conditions import Conditions
from deeper_tasks.manager.manager import BackgroundTaskManager
from deeper_tasks.manager.overview import Overview, QueueOverview, WorkerOverview
from deeper_tasks.manager.views import (
    CancelOutcome,
    Page,
    QueueStatistics,
    RecurringRun,
    RecurringTask,
    Statistics,
    TaskStatus,
    WorkersSummary,
)

__all__ = [
    "BackgroundTaskManager",
    "BlockingFacade",
    "CancelOutcome",
    "Conditions",
    "Overview",
    "Page",
    "QueueOverview",
    "QueueStatistics",
    "RecurringRun",
    "RecurringTask",
    "Statistics",
    "TaskStatus",
    "WorkerOverview",
    "WorkersSummary",
]
