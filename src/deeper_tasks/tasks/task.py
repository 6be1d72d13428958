"""A task: a function that can be enqueued, with its options, bound to the manager that enqueues it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from msgspec import UNSET, Struct, UnsetType

from deeper_tasks.domain.retry_policy import RetryPolicy
from deeper_tasks.errors import TaskError
from deeper_tasks.tasks.arguments import Signature
from deeper_tasks.tasks.coroutines import leads_to_coroutine
from deeper_tasks.tasks.foreign_names import ForeignTaskNames
from deeper_tasks.tasks.options import EnqueueOptions, JobRequest, parse_options
from deeper_tasks.tasks.schedule import TaskSchedule
from deeper_tasks.tasks.task_id import TaskId

P = ParamSpec("P")
R = TypeVar("R")


class ExecutorKind(StrEnum):
    """The kinds of executors, which run a task's function on the event loop, in a thread or in a process."""

    COROUTINE = "coroutine"
    THREAD = "thread"
    PROCESS = "process"

    # The enum's own hash is slow Python code, and every job makes a lookup by it.
    __hash__ = str.__hash__


class ArgumentCheck(StrEnum):
    """The checks of arguments at an enqueue: of their values, or only of names and types."""

    VALUES = "values"
    SIGNATURE = "signature"


class Enqueuer(Protocol):
    """The manager as a task sees it: the object that enqueues its calls."""

    @property
    def sync(self) -> BlockingEnqueuer:
        """The blocking form of the manager."""

    async def enqueue_request(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of the task; `request` includes the task's own options."""


class BlockingEnqueuer(Protocol):
    """The blocking form of an `Enqueuer`: `manager.sync`."""

    def enqueue_request(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of the task, and return when it is stored."""


class Task(ForeignTaskNames, Generic[P, R]):
    """
    A function with a name and options. A call of the task calls the function directly.

    Attributes:
        name: the name in its jobs; it must not change while jobs wait.
        request: its options; the options of an enqueue override them.
        retry: the policy after a failed attempt. If neither the call nor the task gives a delay,
            `request.retry_delay` is None, and the settings' default is used.
        executor: where the function runs.
        schedule: the schedule of its definition, or None.
        module: the module to import to find the function; None if there is none.
        path: the function's place, `module.qualname`; it is the name unless another name was given.
        path_apart: the path if it differs from the name; else, or without a module, None.
        is_transactional: whether it runs inside the transaction that completes its job.
        accepts_late_result: whether a result that it returns after its timeout counts.
        check_arguments: the checks of an enqueue; None takes the settings'.
        memory_limit_mb: the memory limit in a process; None without a limit, UNSET takes the settings'.
        leads_to_coroutine: whether it is an `async def` or wraps one, so that the result of a call must be awaited.
        has_quarantine: whether the attempt after one that was lost with its worker runs apart from other jobs.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        module: str | None,
        executor: ExecutorKind,
        request: JobRequest,
        retry: RetryPolicy,
        schedule: TaskSchedule | None = None,
        is_transactional: bool = False,
        accepts_late_result: bool = False,
        memory_limit_mb: int | UnsetType | None = UNSET,
        check_arguments: ArgumentCheck | None = None,
        has_quarantine: bool = True,
    ) -> None:
        functools.update_wrapper(self, function)
        self.__name__: str = function.__name__
        self.function = function
        self.name = name
        self.module = module
        self.qualname: str = function.__qualname__
        self.path = f"{module}.{self.qualname}"
        self.path_apart = None if module is None or self.path == name else self.path
        self.executor = executor
        self.request = request
        self.retry = retry
        self.schedule = schedule
        self.is_transactional = is_transactional
        self.accepts_late_result = accepts_late_result
        self.memory_limit_mb = memory_limit_mb
        self.check_arguments = check_arguments
        self.leads_to_coroutine = leads_to_coroutine(function)
        self.has_quarantine = has_quarantine
        self.signature = Signature(function)
        self._enqueuers: tuple[weakref.ref[Enqueuer], ...] = ()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, without enqueuing a job."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def sync(self) -> BlockingTask[P]:
        """The task for code that is not async: `send_welcome.sync.enqueue(42)`, typed as `enqueue` is."""
        return BlockingTask(self, self.request)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskId:
        """
        Enqueue a call of the function, and return the job's id.

        Raises:
            TaskError: no manager, or more than one, has this task.
            InvalidArgumentsError: the arguments do not fit the function, or are not JSON.
            BackendUnavailableError: the store did not answer; it is safe to try again.
        """
        return await self._enqueuer().enqueue_request(self, args, kwargs, self.request)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """Return a call for `manager.enqueue_many([send.call(1), send.call(2)])`, without enqueuing it."""
        return TaskCall(task=self, args=args, kwargs=kwargs, request=self.request)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> BoundTask[P, R]:
        """
        Return the task with options that override its own, to enqueue from.

        Raises:
            InvalidOptionError: an option is wrong; the message names it, its value and the way out.
        """
        return BoundTask(self, parse_options(options, base=self.request))

    def bind(self, enqueuer: Enqueuer) -> None:
        """Let `enqueue` use this manager. The reference is weak; a second call with the same manager has no effect."""
        if enqueuer not in self._managers():
            self._enqueuers = (*self._enqueuers, weakref.ref(enqueuer))

    def _managers(self) -> list[Enqueuer]:
        return [enqueuer for each in self._enqueuers if (enqueuer := each()) is not None]

    def _enqueuer(self) -> Enqueuer:
        managers = self._managers()
        if len(managers) == 1:
            return managers[0]
        if managers:
            message = (
                f"{len(managers)} managers have the task {self.name!r}, so the task cannot choose one; "
                "use manager.enqueue_task(task, args=[…])"
            )
        else:
            message = (
                f"no manager has the task {self.name!r}; "
                "decorate it with @manager.task, or register its module by manager.include(…)"
            )
        raise TaskError(message)


class TaskCall(Struct, frozen=True, kw_only=True):
    """
    A call of a task that is not enqueued yet; `task.call(…)` returns it, and `enqueue_many` takes it.

    `scheduled_at` is its due time; if it is None, the options decide.
    """

    task: Task[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    request: JobRequest
    scheduled_at: datetime | timedelta | None = None


class BoundTask(ForeignTaskNames, Generic[P, R]):
    """A task with the options of an enqueue; `task.with_options(…)` returns it."""

    __slots__ = ("request", "task")

    def __init__(self, task: Task[P, R], request: JobRequest) -> None:
        self.task = task
        self.request = request

    @property
    def sync(self) -> BlockingTask[P]:
        """The task with these options for code that is not async: `send.with_options(priority=-1).sync.enqueue(42)`."""
        return BlockingTask(self.task, self.request)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskId:
        """Enqueue a call with these options; see `Task.enqueue`."""
        enqueuer = self.task._enqueuer()  # noqa: SLF001 - its other half
        return await enqueuer.enqueue_request(self.task, args, kwargs, self.request)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """Return a call with these options; see `Task.call`."""
        return TaskCall(task=self.task, args=args, kwargs=kwargs, request=self.request)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> BoundTask[P, R]:
        """Return the task with further options, which override these."""
        return BoundTask(self.task, parse_options(options, base=self.request))


class BlockingTask(ForeignTaskNames, Generic[P]):
    """
    A task for code that is not async; `task.sync` and `task.with_options(…).sync` return it.

    Its calls use `manager.sync`: they run in the thread of the blocking calls, or, with the option `connection`, in the
    caller's thread. Inside a running event loop they work too, but block the loop.
    """

    __slots__ = ("request", "task")

    def __init__(self, task: Task[P, Any], request: JobRequest) -> None:
        self.task = task
        self.request = request

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskId:
        """Enqueue a call, and return when it is stored; raise the errors of `Task.enqueue`."""
        enqueuer = self.task._enqueuer()  # noqa: SLF001 - its other half
        return enqueuer.sync.enqueue_request(self.task, args, kwargs, self.request)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """Return a call for `manager.sync.enqueue_many`, without enqueuing it; see `Task.call`."""
        return TaskCall(task=self.task, args=args, kwargs=kwargs, request=self.request)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> BlockingTask[P]:
        """Return the task with further options, which override these; see `Task.with_options`."""
        return BlockingTask(self.task, parse_options(options, base=self.request))
