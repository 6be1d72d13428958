"""
Errors: every exception that deeper_tasks raises on purpose.

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
    """The root: `except DeeperTasksError` catches whatever this package raises on purpose."""


class ConfigError(DeeperTasksError, ValueError):
    """A setting is unknown or has a value that cannot be used."""


class TaskError(DeeperTasksError):
    """A task, its arguments or its options are wrong; nothing was enqueued."""


class TaskNotFoundError(TaskError, LookupError):
    """No task is registered under this name."""


class InvalidArgumentsError(TaskError, ValueError):
    """The arguments are not JSON, too large, or do not fit the task's signature."""


class InvalidOptionError(TaskError, ValueError):
    """An option is unknown or has a value that cannot be used."""


class UnknownNameError(TaskError, AttributeError):
    """A task or manager has no such attribute. The message says what takes the place of another library's."""


class JobError(DeeperTasksError):
    """A request about one job cannot be met."""


class JobNotFoundError(JobError, LookupError):
    """No job has this id; it may have been cleaned up."""


class AmbiguousIdError(JobError, LookupError):
    """
    The ids of several jobs begin with a short id.

    Attributes:
        candidates: the first of them, whole.
    """

    def __init__(self, message: str, *, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class DuplicateJobError(JobError, ValueError):
    """
    A job with this id exists already and has another task or other arguments.

    Attributes:
        request_id: the id that the job was sent under: `task_id`, where the caller gave one.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class InvalidTransitionError(JobError):
    """The job's state does not allow this, for example cancelling a completed job."""


class JobNotCompletedError(JobError):
    """The job whose result was awaited ended without one: failed, discarded or cancelled."""


class TransactionError(JobError):
    """A job's own transaction was used where there is none, after its end, or in a way that is the worker's alone."""


class ScheduleNotFoundError(DeeperTasksError, LookupError):
    """No recurring task has this name."""


class HookError(DeeperTasksError):
    """A start hook failed, so the worker, or the process for its jobs, did not start. The hook's error is the cause."""


class DamagedError(DeeperTasksError):
    """The requested entry is in the store and cannot be read. The message names the damage and the way out."""


class BackendError(DeeperTasksError):
    """The store refused a request or could not be reached."""


class BackendUnavailableError(BackendError):
    """
    The store did not answer in time or not at all. It is safe to try again.

    Attributes:
        request_ids: of an insert, the requests it carried, one a job. Sending the same requests again
            never makes a second job, unless the store says that it cannot repeat an insert.
        job_ids: of a settle, the jobs that could not be written, where all others were; without
            any, none may be.
    """

    def __init__(self, message: str, *, request_ids: tuple[str, ...] = (), job_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.request_ids = request_ids
        self.job_ids = job_ids


class AccessError(BackendError):
    """The user of the store lacks a right. The message names it; until it is granted, to try again is of no use."""


class NodeLostError(BackendError):
    """This worker was taken for dead and its jobs were given to others; it must register anew."""


class UnsupportedError(BackendError):
    """This store cannot do what was asked; `Capabilities` says what it can."""


class SchemaError(BackendError):
    """The store holds no schema of ours, or one newer than this code."""


E = TypeVar("E", bound=Exception)


def copy_of(error: E) -> E:
    """Return an error of the same class, words and cause, for one more caller: each may add to its own."""
    copied = copy(error).with_traceback(error.__traceback__)
    copied.__cause__, copied.__suppress_context__ = error.__cause__, error.__suppress_context__
    return copied
