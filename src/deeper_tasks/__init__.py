"""
deeper_tasks: a background task manager.

One facade, `BackgroundTaskManager`, over interchangeable stores. See the README for a first example.
"""

from typing import TYPE_CHECKING

from deeper_tasks.config import Settings
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.finding import Finding, Severity
from deeper_tasks.domain.job import AttemptError, Progress
from deeper_tasks.domain.outcome import Cancel, Done, Fail, Retry, Snooze, Stopped
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.state import State
from deeper_tasks.domain.view import View
from deeper_tasks.domain.waiting import WaitingFor, WaitReason
from deeper_tasks.manager import (
    BackgroundTaskManager,
    BlockingFacade,
    CancelOutcome,
    Conditions,
    Overview,
    Page,
    QueueOverview,
    QueueStatistics,
    RecurringRun,
    RecurringTask,
    Statistics,
    TaskStatus,
    WorkerOverview,
    WorkersSummary,
)
from deeper_tasks.tasks import (
    BlockingTask,
    BoundTask,
    CurrentJob,
    EnqueueOptions,
    Task,
    TaskCall,
    TaskId,
    TaskOptions,
    WorkerState,
    current_job,
    task,
)

__version__ = "0.1.0"

__all__ = [
    "AttemptError",
    "BackgroundTaskManager",
    "BlockingFacade",
    "BlockingTask",
    "BoundTask",
    "Cancel",
    "CancelOutcome",
    "Conditions",
    "CurrentJob",
    "Damage",
    "Done",
    "EnqueueOptions",
    "Fail",
    "Finding",
    "Overview",
    "Page",
    "Progress",
    "QueueOverview",
    "QueueStatistics",
    "RecurringRun",
    "RecurringTask",
    "Redactor",
    "Retry",
    "RetryPolicy",
    "RunOutcome",
    "Settings",
    "Severity",
    "Snooze",
    "State",
    "Statistics",
    "Stopped",
    "Task",
    "TaskCall",
    "TaskId",
    "TaskOptions",
    "TaskStatus",
    "View",
    "WaitReason",
    "WaitingFor",
    "WorkerOverview",
    "WorkerState",
    "WorkersSummary",
    "current_job",
    "task",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Raise an error that names the equivalent of another library's name; `hasattr` and imports fail as usual."""
        from deeper_tasks.tasks.foreign_names import missing_from_package
        from deeper_tasks.tasks.imports import is_from_import

        raise missing_from_package(__name__, name, is_import=is_from_import())
