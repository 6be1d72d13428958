"""
deeper_tasks: a background task manager.

One facade, `BackgroundTaskManager`, over interchangeable stores. See the README for a first example.
"""

from deeper_tasks.config import Settings
from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.finding import Finding, Severity
from deeper_tasks.domain.outcome import Cancel, Done, Fail, Retry, Snooze, Stopped
from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.state import State
from deeper_tasks.manager import (
    BackgroundTaskManager,
    CancelOutcome,
    Overview,
    Page,
    RecurringRun,
    RecurringTask,
    Statistics,
    TaskStatus,
)
from deeper_tasks.tasks import CurrentJob, Task, TaskCall, TaskId, WorkerState, current_job, task

__version__ = "0.1.0"

__all__ = [
    "BackgroundTaskManager",
    "Cancel",
    "CancelOutcome",
    "CurrentJob",
    "Damage",
    "Done",
    "Fail",
    "Finding",
    "Overview",
    "Page",
    "RecurringRun",
    "RecurringTask",
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
    "TaskStatus",
    "WorkerState",
    "current_job",
    "task",
]
