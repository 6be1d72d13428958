"""The blocking facade: the same for code that is not async, method for method."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from deeper_tasks.manager.areas import Area, Namespace, NamespaceHolder, Queues
from deeper_tasks.manager.core import ManagerCore
from deeper_tasks.manager.facade import Facade
from deeper_tasks.manager.input_checks import to_calls
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.manager.producer import common_connection
from deeper_tasks.manager.progress import OnProgress
from deeper_tasks.sync import blocking, carry_out
from deeper_tasks.tasks import ForeignBlockingNames, JobRequest, Seconds, TaskCall, TaskId

A = TypeVar("A", bound=Area)


class BlockingArea(Generic[A]):
    """The blocking form of an area: it has each function, which returns when it is done."""

    def __init__(self, area: A, *, core: ManagerCore) -> None:
        self._behind = area
        self._core = core
        self._loop = core.thread

    def _prepare(self) -> None:
        self._loop.run(self._core.parts.store.ready(will_join=True))


class BlockingQueues(BlockingArea[Queues], Namespace):
    """The namespace `manager.sync.queues`."""

    pause = blocking(Queues.pause)
    resume = blocking(Queues.resume)


class BlockingFacade(BlockingArea[Facade], NamespaceHolder, ForeignBlockingNames):
    """
    The blocking form of a manager, `manager.sync`: it has each function and each namespace.

    Attributes:
        queues: the functions for whole queues.
    """

    def __init__(self, facade: Facade) -> None:
        super().__init__(facade, core=facade.core)
        self.queues = BlockingQueues(facade.queues, core=facade.core)

    open = blocking(Facade.open)
    migrate = blocking(Facade.migrate)
    migration_script = blocking(Facade.migration_script)
    enqueue_task = blocking(Facade.enqueue_task)
    schedule_task = blocking(Facade.schedule_task)
    _enqueue_many = blocking(Facade.enqueue_many)
    schedule_recurring_task = blocking(Facade.schedule_recurring_task)
    declare_recurring_tasks = blocking(Facade.declare_recurring_tasks)
    cancel_recurring_task = blocking(Facade.cancel_recurring_task)
    pause_recurring_task = blocking(Facade.pause_recurring_task)
    resume_recurring_task = blocking(Facade.resume_recurring_task)
    list_removed_recurring_tasks = blocking(Facade.list_removed_recurring_tasks)
    list_recurring_tasks = blocking(Facade.list_recurring_tasks)
    get_recurring_task = blocking(Facade.get_recurring_task)
    run_recurring_task = blocking(Facade.run_recurring_task)
    recurring_task_history = blocking(Facade.recurring_task_history)
    cancel_task = blocking(Facade.cancel_task)
    cancel_tasks = blocking(Facade.cancel_tasks)
    retry_task = blocking(Facade.retry_task)
    retry_tasks = blocking(Facade.retry_tasks)
    reschedule_task = blocking(Facade.reschedule_task)
    run_task_now = blocking(Facade.run_task_now)
    delete_task = blocking(Facade.delete_task)
    delete_tasks = blocking(Facade.delete_tasks)
    cleanup_old_tasks = blocking(Facade.cleanup_old_tasks)
    compact_store = blocking(Facade.compact_store)
    get_task_status = blocking(Facade.get_task_status)
    expand_task_id = blocking(Facade.expand_task_id)
    shorten_task_ids = blocking(Facade.shorten_task_ids)
    list_tasks = blocking(Facade.list_tasks)
    list_dead_letters = blocking(Facade.list_dead_letters)
    get_statistics = blocking(Facade.get_statistics)
    get_overview = blocking(Facade.get_overview)
    diagnose = blocking(Facade.diagnose)
    result = blocking(Facade.result)

    def enqueue_many(
        self,
        calls: Iterable[TaskCall],
        *,
        atomic: bool = True,
        connection: object = None,
        enqueue_patience_seconds: Seconds | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[TaskId]:
        """As in the manager: all or none of the calls, through the connection given or the one that each carries."""
        checked = to_calls(calls)
        chosen = common_connection(checked, given=connection)
        return self._enqueue_many(
            checked,
            atomic=atomic,
            connection=chosen,
            enqueue_patience_seconds=enqueue_patience_seconds,
            on_progress=on_progress,
        )

    def enqueue_request(
        self, task: AnyTask, args: tuple[Any, ...], kwargs: dict[str, Any], request: JobRequest, /
    ) -> TaskId:
        """Enqueue a call of a task that is bound to the manager: what `task.sync.enqueue(…)` does."""
        coroutine = self._behind.enqueue_request(task, args, kwargs, request)
        return carry_out(self, coroutine, connection=request.connection)

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
