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
from deeper_tasks.tasks.habits import TaskHabits
from deeper_tasks.tasks.options import EnqueueOptions, JobRequest, parse_options
from deeper_tasks.tasks.schedule import TaskSchedule
from deeper_tasks.tasks.task_id import TaskId

P = ParamSpec("P")
R = TypeVar("R")


class ExecutorKind(StrEnum):
    """Where a task's function runs."""

    COROUTINE = "coroutine"
    THREAD = "thread"
    PROCESS = "process"

    # The enum's own hash is Python code, and every job makes a lookup by it.
    __hash__ = str.__hash__


class ArgumentCheck(StrEnum):
    """The checks of arguments when they are enqueued."""

    VALUES = "values"
    SIGNATURE = "signature"


class Enqueuer(Protocol):
    """What a task is bound to: the manager."""

    @property
    def sync(self) -> BlockingEnqueuer:
        """Its blocking form."""

    async def enqueue_request(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of the task; `request` holds the task's own options too."""


class BlockingEnqueuer(Protocol):
    """The blocking form of what a task is bound to: `manager.sync`."""

    def enqueue_request(
        self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of the task, and return once it is stored."""


class Task(TaskHabits, Generic[P, R]):
    """
    A function with a name and options. Calling it calls the function, here and now.

    Attributes:
        name: what jobs name it by; it must stay the same while jobs are under way.
        request: its options, which those of an enqueue are laid over.
        retry: what follows a failed attempt. Where neither the call nor the task
            gives a delay, `request.retry_delay` is None and the settings' default counts.
        executor: where it runs.
        schedule: when it is due by itself; None if it is not.
        module: the module to import to find it; None if there is none.
        path: where the function stands, `module.qualname`: the name unless another was given.
        path_apart: the path where it is not the name; None where it is, or where there is no module.
        is_transactional: whether it runs inside the transaction that completes its job.
        accepts_late_result: whether what it returns after its timeout counts.
        check_arguments: what an enqueue checks; None where the settings' counts.
        memory_limit_mb: what it may use in a process; None without a limit, UNSET where the settings' counts.
        leads_to_coroutine: whether it is an `async def`, or wraps one: then what a call gives is meant to be awaited.
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
        """Call the function itself; nothing is enqueued."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def sync(self) -> BlockingTask[P]:
        """The task for code that is not async: `send_welcome.sync.enqueue(42)`, typed as `enqueue` is."""
        return BlockingTask(self, self.request)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskId:
        """
        Enqueue a call.

        Raises:
            TaskError: no manager, or more than one, has this task.
            InvalidArgumentsError: the arguments do not fit, or are not JSON.
            BackendUnavailableError: safe to try again.
        """
        return await self._enqueuer().enqueue_request(self, args, kwargs, self.request)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """Return a call to enqueue together with others: `manager.enqueue_many([send.call(1), send.call(2)])`."""
        return TaskCall(task=self, args=args, kwargs=kwargs, request=self.request)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> BoundTask[P, R]:
        """
        Return the task with options laid over its own, to enqueue from.

        Raises:
            InvalidOptionError: names the option, its value and the way out.
        """
        return BoundTask(self, parse_options(options, base=self.request))

    def bind(self, enqueuer: Enqueuer) -> None:
        """Let `enqueue` use this manager. The reference is weak; the same manager again changes nothing."""
        if enqueuer not in self._managers():
            self._enqueuers = (*self._enqueuers, weakref.ref(enqueuer))

    def unbind(self, enqueuer: Enqueuer) -> None:
        """Undo `bind`."""
        self._enqueuers = tuple(each for each in self._enqueuers if each() is not enqueuer)

    @property
    def is_bound(self) -> bool:
        """Whether a manager has this task."""
        return bool(self._managers())

    def _managers(self) -> list[Enqueuer]:
        return [enqueuer for each in self._enqueuers if (enqueuer := each()) is not None]

    def _enqueuer(self) -> Enqueuer:
        managers = self._managers()
        if len(managers) == 1:
            return managers[0]
        if managers:
            message = (
                f"{len(managers)} managers have the task {self.name!r}, so it cannot tell which one is meant; "
                "use manager.enqueue_task(task, args=[…])"
            )
        else:
            message = (
                f"no manager has the task {self.name!r}; "
                "decorate it with @manager.task, or take its module in with manager.include(…)"
            )
        raise TaskError(message)


class TaskCall(Struct, frozen=True, kw_only=True):
    """
    A call of a task that is not enqueued yet: what `task.call(…)` gives, and `enqueue_many` takes.

    `scheduled_at` is when it is due; None where its options say that.
    """

    task: Task[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    request: JobRequest
    scheduled_at: datetime | timedelta | None = None


class BoundTask(TaskHabits, Generic[P, R]):
    """A task with the options of an enqueue: what `task.with_options(…)` gives."""

    __slots__ = ("request", "task")

    def __init__(self, task: Task[P, R], request: JobRequest) -> None:
        self.task = task
        self.request = request

    @property
    def sync(self) -> BlockingTask[P]:
        """The same for code that is not async: `send.with_options(priority=-1).sync.enqueue(42)`."""
        return BlockingTask(self.task, self.request)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskId:
        """Enqueue a call with these options; see `Task.enqueue`."""
        enqueuer = self.task._enqueuer()  # noqa: SLF001 - its other half
        return await enqueuer.enqueue_request(self.task, args, kwargs, self.request)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """Return a call with these options; see `Task.call`."""
        return TaskCall(task=self.task, args=args, kwargs=kwargs, request=self.request)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> BoundTask[P, R]:
        """Return the task with further options laid over these."""
        return BoundTask(self.task, parse_options(options, base=self.request))


class BlockingTask(TaskHabits, Generic[P]):
    """
    A task for code that is not async: what `task.sync` and `task.with_options(…).sync` give.

    It works through `manager.sync`: in the thread of the blocking calls, or, with the option `connection`, in the
    caller's. It can be used inside a running event loop too, which it then blocks.
    """

    __slots__ = ("request", "task")

    def __init__(self, task: Task[P, Any], request: JobRequest) -> None:
        self.task = task
        self.request = request

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskId:
        """Enqueue a call, and return once it is stored; raises as `Task.enqueue` does."""
        enqueuer = self.task._enqueuer()  # noqa: SLF001 - its other half
        return enqueuer.sync.enqueue_request(self.task, args, kwargs, self.request)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> TaskCall:
        """Return a call to enqueue together with others, by `manager.sync.enqueue_many`; see `Task.call`."""
        return TaskCall(task=self.task, args=args, kwargs=kwargs, request=self.request)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> BlockingTask[P]:
        """Return the task with options laid over these; see `Task.with_options`."""
        return BlockingTask(self.task, parse_options(options, base=self.request))
