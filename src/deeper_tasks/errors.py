"""
Errors: the exceptions that deeper_tasks raises by design.

    DeeperTasksError
    ├── ConfigError                 several faults at once: an ExceptionGroup
    ├── TaskError
    │   ├── TaskNotFoundError
    │   ├── InvalidArgumentsError
    │   ├── InvalidOptionError
    │   └── UnknownNameError
    ├── JobError
    │   ├── JobNotFoundError
    │   ├── AmbiguousIdError
    │   ├── DuplicateJobError
    │   ├── InvalidTransitionError
    │   ├── JobNotCompletedError
    │   └── TransactionError
    ├── ScheduleNotFoundError
    ├── HookError
    ├── DamagedError
    └── BackendError
        ├── BackendUnavailableError     safe to try again
        ├── AccessError
        ├── NodeLostError
        ├── UnsupportedError
        └── SchemaError
"""

from __future__ import annotations

from copy import copy
from typing import TypeVar


class DeeperTasksError(Exception):
    """The root of the errors: `except DeeperTasksError` catches every error that this package raises by design."""


class ConfigError(DeeperTasksError, ValueError):
    """The error of a setting that is unknown, or whose value cannot be used."""


class TaskError(DeeperTasksError):
    """The error of a task, its arguments or its options; no job was enqueued."""


class TaskNotFoundError(TaskError, LookupError):
    """The error of a name under which no task is registered."""


class InvalidArgumentsError(TaskError, ValueError):
    """The error of arguments that are not JSON, are too large, or do not fit the task's signature."""


class InvalidOptionError(TaskError, ValueError):
    """The error of an option that is unknown, or whose value cannot be used."""


class UnknownNameError(TaskError, AttributeError):
    """The error of a name from another task library; the message names the equivalent here."""


class JobError(DeeperTasksError):
    """The error of a request about one job."""


class JobNotFoundError(JobError, LookupError):
    """The error of an id that no job has; the job may have been cleaned up."""


class AmbiguousIdError(JobError, LookupError):
    """
    The error of a short id with which the ids of several jobs begin.

    Attributes:
        candidates: the first of these ids, in full.
    """

    def __init__(self, message: str, *, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class DuplicateJobError(JobError, ValueError):
    """
    The error of an id that belongs to an existing job with another task or other arguments.

    Attributes:
        request_id: the id that the job was sent under: `task_id`, where the caller gave one.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class InvalidTransitionError(JobError):
    """The error of a request that the job's state does not allow, such as to cancel a completed job."""


class JobNotCompletedError(JobError):
    """The error of an awaited job that ended without a result: failed, discarded or cancelled."""


class TransactionError(JobError):
    """The error of code that uses a job's transaction where there is none, after its end, or to commit or close it."""


class ScheduleNotFoundError(DeeperTasksError, LookupError):
    """The error of a name that no recurring task has."""


class HookError(DeeperTasksError):
    """The error of a failed start hook: the worker, or its process for jobs, did not start. The cause is chained."""


class DamagedError(DeeperTasksError):
    """The error of an entry of the store that cannot be read; the message names the damage and the way out."""


class BackendError(DeeperTasksError):
    """The error of a store that refused a request or could not be reached."""


class BackendUnavailableError(BackendError):
    """
    The error of a store that did not answer, or not in time. It is safe to try again.

    Attributes:
        request_ids: after an insert, the requests that it carried, one for each job. Sending the same requests again
            never makes a second job. Empty if the store cannot tell a repeated insert from a new one.
        job_ids: after a settle, the jobs that were not written while all others were; if empty, none may have been
            written.
    """

    def __init__(self, message: str, *, request_ids: tuple[str, ...] = (), job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.request_ids = request_ids
        self.job_ids = job_ids


class AccessError(BackendError):
    """The error of a right that the user of the store lacks; the message names it. Repeating is useless until then."""


class NodeLostError(BackendError):
    """The error of a worker whose jobs were rescued because it seemed dead; it must register again."""


class UnsupportedError(BackendError):
    """The error of a request that this store does not support; its `Capabilities` list the supported ones."""


class SchemaError(BackendError):
    """The error of a store without this library's schema, or with a schema newer than this code."""


E = TypeVar("E", bound=Exception)


def copy_of(error: E) -> E:
    """Return a copy of an error with its message and cause, so that each caller can add notes to its own."""
    copied = copy(error).with_traceback(error.__traceback__)
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copied
