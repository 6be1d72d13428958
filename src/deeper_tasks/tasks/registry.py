"""The registry: the tasks that a manager knows. A worker runs only these."""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from deeper_tasks.domain.module_names import TASK_MODULES, is_named_as
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.errors import TaskError, TaskNotFoundError
from deeper_tasks.tasks.definition import make_task
from deeper_tasks.tasks.discovery import modules_below
from deeper_tasks.tasks.naming import importable_name
from deeper_tasks.tasks.quoting import quoted
from deeper_tasks.tasks.task import Task

_logger = logging.getLogger("deeper_tasks")

AnyTask = Task[..., Any]

_MOST_SHOWN = 5


class TaskRegistry:
    """
    Tasks by their names, and by the paths of their functions.

    Public functions of `allowed_modules`, and of modules below them, are tasks without a decorator. `admit` is called
    before a task is registered, and raises if the task cannot be registered.
    """

    def __init__(
        self, *, allowed_modules: Iterable[str] = (), admit: Callable[[AnyTask], None] = lambda _: None
    ) -> None:
        self._allowed = tuple(allowed_modules)
        self._admit = admit
        self._by_name: dict[str, AnyTask] = {}
        self._by_path: dict[str, AnyTask] = {}

    def __iter__(self) -> Iterator[AnyTask]:
        return iter(tuple(self._by_name.values()))

    def add(self, task: AnyTask) -> None:
        """
        Register a task; the same function of a reloaded module replaces its former task.

        Raises:
            TaskError: another function has this name.
            DeeperTasksError: the task is not admitted.
        """
        self._admit(task)
        known = self._by_name.get(task.name)
        if known is not None and known.path != task.path:
            message = (
                f"two functions have the task name {task.name!r}: {known.path} and {task.path}; "
                "give one of them another name=…"
            )
            raise TaskError(message)
        self._by_name[task.name] = task
        self._by_path[task.path] = task

    def get(self, name: str) -> AnyTask | None:
        """Return the task of this name, or None; import no module."""
        return self._by_name.get(name)

    def names(self) -> frozenset[str] | None:
        """Return all names that `resolve_for_run` knows; None if allowed modules make further functions tasks."""
        return None if self._allowed else frozenset((*self._by_name, *self._by_path))

    def find(self, worker: ModuleType | type | str, function: str) -> AnyTask:
        """
        Return the task for an enqueue: `function` of a module, a class, or the dotted name of either.

        If the task is not known yet, its module is imported. So `worker` must come from the program, never from data
        that others have sent.

        Raises:
            TaskNotFoundError: there is no such task, or its module cannot be imported.
        """
        name = f"{dotted_name(worker)}.{function}"
        found = self._by_name.get(name) or self._by_path.get(name) or self._import(name)
        if found is None:
            raise TaskNotFoundError(self._unknown(name))
        return found

    def include(self, module: str | ModuleType, *, patterns: Iterable[str] = TASK_MODULES) -> list[AnyTask]:
        """
        Register the tasks of a module, and of a package's modules whose names match the patterns; return them.

        Raises:
            TaskNotFoundError: a module cannot be imported.
            TaskError: another function has the name of one of the tasks.
        """
        if isinstance(module, str):
            module = _import_module(module)
        tasks = _tasks_in(module)
        below = modules_below(module)
        for name in below:
            if is_named_as(name, patterns):
                tasks += _tasks_in(_import_module(name))
        if below and not tasks:
            _warn_of_nothing(module.__name__, below, patterns)
        for task in tasks:
            self.add(task)
        return list(dict.fromkeys(tasks))

    def resolve_for_run(self, name: str) -> AnyTask | None:
        """
        Return the task that a job of this name runs, or None.

        `name` comes from the store. So only allowed modules are imported, and only registered tasks and public
        functions that are defined in allowed modules are returned.

        Raises:
            TaskNotFoundError: an allowed module cannot be imported.
        """
        return self._by_name.get(name) or self._by_path.get(name) or self._allowed_task(name)

    def _import(self, name: str) -> AnyTask | None:
        module = _longest_importable(name)
        if module is None:
            return None
        for task in _tasks_in(module):
            if task.name not in self._by_name:
                self.add(task)
        return self._by_name.get(name) or self._by_path.get(name) or self._allowed_task(name)

    def _allowed_task(self, name: str) -> AnyTask | None:
        below = [each for each in self._allowed if name.startswith(f"{each}.")]
        if not below or any(part.startswith("_") for part in name.split(".")):
            return None
        module = _longest_importable(name, shortest=min(below, key=len))
        if module is None:
            return None
        task = _own_task(module, name.removeprefix(f"{module.__name__}."))
        if task is not None:
            self.add(task)
        return task

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, [*self._by_name, *self._by_path], n=1)
        way_out = (
            f"did you mean {near[0]!r}?"
            if near
            else "decorate the function with @manager.task, or name its module in allowed_modules"
        )
        return f"no task is named {quoted(name)}; {way_out}"


def dotted_name(worker: ModuleType | type | str) -> str:
    """Return the dotted name by which a module or class can be imported; a text is returned as it is."""
    if isinstance(worker, str):
        return worker
    name = worker.__name__ if isinstance(worker, ModuleType) else worker.__module__
    module = importable_name(name)
    return module if isinstance(worker, ModuleType) else f"{module}.{worker.__qualname__}"


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        message = f"cannot import {quoted(name)}: {type(error).__name__}: {Redactor()(str(error))}"
        raise TaskNotFoundError(message) from error


def _longest_importable(name: str, *, shortest: str = "") -> ModuleType | None:
    """
    Import the longest part of a task's name that is a module, but none shorter than `shortest`.

    A module that exists, but whose import fails, is an error; shorter parts are not tried then.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for end in range(len(parts) - 1, 0, -1):
        prefix = ".".join(parts[:end])
        if len(prefix) < len(shortest):
            return None
        try:
            return _import_module(prefix)
        except TaskNotFoundError as error:
            if not _is_absent(prefix, error.__cause__):
                raise
    return None


def _is_absent(module: str, error: BaseException | None) -> bool:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _warn_of_nothing(package: str, below: list[str], patterns: Iterable[str]) -> None:
    others = [name for name in below if not is_named_as(name, patterns)]
    shown = ", ".join(others[:_MOST_SHOWN]) + (f" and {len(others) - _MOST_SHOWN} more" if others[_MOST_SHOWN:] else "")
    _logger.warning(
        "package %s has no task in a module that is named %s%s",
        package,
        " or ".join(patterns),
        f"; modules not searched: {shown}; include the module itself, or give task_modules" if others else "",
    )


def _tasks_in(module: ModuleType) -> list[AnyTask]:
    """Return the tasks in a module and in the classes that it defines."""
    values = list(vars(module).values())
    for value in tuple(values):
        if inspect.isclass(value) and value.__module__ == module.__name__:
            values += vars(value).values()
    bare = (value.__func__ if isinstance(value, staticmethod) else value for value in values)
    return [value for value in bare if isinstance(value, Task)]


def _own_task(module: ModuleType, qualname: str) -> AnyTask | None:
    """Return the task that a module defines under this name, made of the function if it has no decorator, or None."""
    owner: Any = module
    *classes, last = qualname.split(".")
    for name in classes:
        owner = vars(owner).get(name)
        if not inspect.isclass(owner) or owner.__module__ != module.__name__:
            return None
    value = vars(owner).get(last)
    if isinstance(value, staticmethod):
        value = value.__func__
    if isinstance(value, Task):
        return value if value.path == f"{module.__name__}.{qualname}" else None
    if not inspect.isfunction(value) or (value.__module__, value.__qualname__) != (module.__name__, qualname):
        return None
    try:
        return make_task(value)
    except TaskError:
        return None
