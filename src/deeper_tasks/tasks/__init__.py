"""Tasks: definitions, the registry, the options and arguments of an enqueue, and the context of a running job."""

from deeper_tasks.tasks.arguments import Signature
from deeper_tasks.tasks.context import (
    CurrentJob,
    OpenTransaction,
    Reporter,
    current_job,
    enter_job,
    joined_connection,
    leave_job,
    middleware_view,
    open_transaction,
    running_job,
)
from deeper_tasks.tasks.definition import TaskOptions, make_task, task
from deeper_tasks.tasks.discovery import check_patterns
from deeper_tasks.tasks.foreign_names import ForeignBlockingNames, ForeignManagerNames
from deeper_tasks.tasks.manager_identity import ManagerIdentity
from deeper_tasks.tasks.options import (
    NOTHING_ASKED,
    EnqueueOptions,
    JobRequest,
    Seconds,
    check_patience,
    merge,
    parse_moment,
    parse_options,
    parse_patience,
    unknown_option,
)
from deeper_tasks.tasks.registry import TaskRegistry
from deeper_tasks.tasks.schedule import TaskSchedule, parse_policy
from deeper_tasks.tasks.stop_signals import StopSignals
from deeper_tasks.tasks.task import (
    ArgumentCheck,
    BlockingEnqueuer,
    BlockingTask,
    BoundTask,
    Enqueuer,
    ExecutorKind,
    Task,
    TaskCall,
)
from deeper_tasks.tasks.task_id import TaskId
from deeper_tasks.tasks.worker_state import WorkerState

__all__ = [
    "NOTHING_ASKED",
    "ArgumentCheck",
    "BlockingEnqueuer",
    "BlockingTask",
    "BoundTask",
    "CurrentJob",
    "EnqueueOptions",
    "Enqueuer",
    "ExecutorKind",
    "ForeignBlockingNames",
    "ForeignManagerNames",
    "JobRequest",
    "ManagerIdentity",
    "OpenTransaction",
    "Reporter",
    "Seconds",
    "Signature",
    "StopSignals",
    "Task",
    "TaskCall",
    "TaskId",
    "TaskOptions",
    "TaskRegistry",
    "TaskSchedule",
    "WorkerState",
    "check_patience",
    "check_patterns",
    "current_job",
    "enter_job",
    "joined_connection",
    "leave_job",
    "make_task",
    "merge",
    "middleware_view",
    "open_transaction",
    "parse_moment",
    "parse_options",
    "parse_patience",
    "parse_policy",
    "running_job",
    "task",
    "unknown_option",
]
