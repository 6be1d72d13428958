"""The known tasks: those that a manager can enqueue and its workers run."""

from __future__ import annotations

from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from deeper_tasks.errors import TaskError
from deeper_tasks.manager.input_checks import no_function, no_task
from deeper_tasks.manager.jobs import AnyTask
from deeper_tasks.tasks import Enqueuer, Task, TaskRegistry

P = ParamSpec("P")
R = TypeVar("R")

WorkerName = ModuleType | type | str | Task[..., Any]
"""Where a task's function lives: its module or class, a dotted name of one, or the task itself."""


class KnownTasks:
    """The registry of a manager; each task that it returns is bound to that manager, and enqueues with it."""

    def __init__(self, registry: TaskRegistry, *, enqueuer: Enqueuer) -> None:
        self.registry = registry
        self._enqueuer = enqueuer

    def register(self, task: Task[P, R]) -> Task[P, R]:
        """Add a task and bind it."""
        self.registry.add(task)
        task.bind(self._enqueuer)
        return task

    def bind(self, task: AnyTask) -> AnyTask:
        """Bind a task that is in the registry."""
        task.bind(self._enqueuer)
        return task

    def adopt(self, task: AnyTask) -> AnyTask:
        """Return a task, registered if it was not."""
        if self.registry.get(task.name) is not task:
            self.register(task)
        return task

    def find(self, worker: WorkerName, function: str | None) -> AnyTask:
        """
        Return the task that `worker` and `function` name, or that `worker` is.

        Raises:
            TaskNotFoundError: there is no such task.
            TaskError: they name no task; the message says how to name one.
        """
        if isinstance(worker, Task):
            if function is not None:
                raise TaskError(f"{worker!r} is the whole task: write enqueue_task(task, args=[…])")
            return self.adopt(worker)
        if function is None:
            raise TaskError(no_task(worker))
        if (message := no_function(worker, function)) is not None:
            raise TaskError(message)
        return self.bind(self.registry.find(worker, function))
