"""The registry: the tasks that a manager knows. A worker runs what stands here, and nothing else."""

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
    Tasks by name, and by where their functions stand.

    Public functions of `allowed_modules`, and of modules below those, count as
    tasks undecorated. `admit` is asked before a task is taken in, and raises for
    one that cannot be.
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
        Take a task in; the same function again, of a module that was loaded anew, takes its own place.

        Raises:
            TaskError: another function has this name.
            DeeperTasksError: it is not admitted.
        """
        self._admit(task)
        known = self._by_name.get(task.name)
        if known is not None and known.path != task.path:
            message = (
                f"two functions would be the task {task.name!r}: {known.path} and {task.path}; "
                "give one of them another name=…"
            )
            raise TaskError(message)
        self._by_name[task.name] = task
        self._by_path[task.path] = task

    def get(self, name: str) -> AnyTask | None:
        """Return the task of this name, or None. Imports nothing."""
        return self._by_name.get(name)

    def names(self) -> frozenset[str] | None:
        """Return all names of tasks that `resolve_for_run` knows; None: any function of allowed modules is one."""
        return None if self._allowed else frozenset((*self._by_name, *self._by_path))

    def find(self, worker: ModuleType | type | str, function: str) -> AnyTask:
        """
        Return the task that an enqueue means: `function` of a module or class, or of its dotted name.

        Imports the module that is named when the task is not known yet. So
        `worker` must come from the program, never from what others sent.

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
        Take in every task of a module and, of a package, of the modules in it whose names fit; returns them.

        Raises:
            TaskNotFoundError: a module cannot be imported.
            TaskError: another function has one of the names.
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

        `name` comes from the store: nothing is imported but allowed modules, and
        nothing is returned but registered tasks and public functions defined there.

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
        return f"no task {quoted(name)} is known; {way_out}"


def dotted_name(worker: ModuleType | type | str) -> str:
    """Return the dotted name of a module or class, by which it can be imported; a text is one already."""
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
    Import the longest part of a task's name that is a module, not shorter than `shortest`.

    A module that is there and fails to be imported is an error, not a reason to look further up.
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
        "the package %s has no task in a module that is named %s%s",
        package,
        " or ".join(patterns),
        f"; not looked at: {shown}; include the module itself, or give task_modules" if others else "",
    )


def _tasks_in(module: ModuleType) -> list[AnyTask]:
    """Return the tasks among a module's names, and among those of the classes defined in it."""
    values = list(vars(module).values())
    for value in tuple(values):
        if inspect.isclass(value) and value.__module__ == module.__name__:
            values += vars(value).values()
    bare = (value.__func__ if isinstance(value, staticmethod) else value for value in values)
    return [value for value in bare if isinstance(value, Task)]


def _own_task(module: ModuleType, qualname: str) -> AnyTask | None:
    """Return the task, or the function as a task, that is defined in a module under this name."""
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
