"""The API: what an application imports, from its signatures and docstrings."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from enum import Enum
from typing import Any

from docs.generate import docstrings
from docs.generate.markdown import NOTICE, one_line, table

import deeper_tasks
from deeper_tasks import errors, testing
from deeper_tasks.domain.job import AttemptError, Progress
from deeper_tasks.domain.view import View
from deeper_tasks.domain.waiting import WaitingFor, WaitReason
from deeper_tasks.manager import (
    BackgroundTaskManager,
    QueueOverview,
    QueueStatistics,
    WorkerOverview,
    WorkersSummary,
)
from deeper_tasks.manager.areas import ControlArea, EnqueueArea, LifeArea, Queues, ReadingArea, RecurringArea
from deeper_tasks.manager.conditions import Conditions
from deeper_tasks.manager.facade import Facade
from deeper_tasks.tasks import BlockingTask, BoundTask, EnqueueOptions, TaskOptions
from deeper_tasks.testing.faulty import Fault
from deeper_tasks.testing.kit import TaskKit
from deeper_tasks.testing.kit_session import KitSession

_GROUPS: dict[str, tuple[str, type | None]] = {
    "": ("Make one", None),
    "life": ("Open and close", LifeArea),
    "tasks": ("Register tasks, and what goes around them", None),
    "enqueue": ("Enqueue", EnqueueArea),
    "recurring tasks": ("Recurring tasks", RecurringArea),
    "control": ("Control", ControlArea),
    "reading": ("Look", ReadingArea),
    "run": ("Run", None),
}
"""The groups of the manager's functions: the title of each, and the area that it comes from."""
_NAMESPACES: dict[str, type] = {"queues": Queues}
_NOT_TO_BE_CALLED = {"enqueue_request"}
"""Public methods that are not for users: `task.enqueue` calls them with checked arguments."""


_SESSION = [name for group, name, _ in docstrings.members(KitSession) if group != "inside"]


def api() -> str:
    """Return the page."""
    return f"""{NOTICE}
# The Python API

Import these names from `deeper_tasks`, the errors from `deeper_tasks.errors`, and the testing kit from
`deeper_tasks.testing`. Names that are not on this page are internal, and may change.
A duration given as a number is in seconds. Datetimes are aware, and returned ones are in UTC.

## BackgroundTaskManager

{docstrings.constructor(BackgroundTaskManager)}
{_manager()}
{_values(Conditions)}
## Tasks

{_functions(deeper_tasks.task)}
{_values(TaskOptions)}
{_values(EnqueueOptions)}
{_class(deeper_tasks.Task, ["enqueue", "call", "with_options"])}
{_class(BoundTask)}
{_class(BlockingTask)}
{_class(deeper_tasks.TaskCall, [])}
{_class(deeper_tasks.TaskId, [])}
## In a running task

{_functions(deeper_tasks.current_job)}
{_class(deeper_tasks.CurrentJob)}
### Outcomes

A handler raises or returns one to decide the end of its attempt itself.

{_outcomes()}
{_values(deeper_tasks.RetryPolicy)}
## Secrets

[The guide](../how-to/sensitive-data.md) says what goes through it. A manager's own is `manager.redactor`.

{_class(deeper_tasks.Redactor, [], is_made=True)}
## Returned values

{_class(View)}
{_values(deeper_tasks.TaskStatus, WaitingFor, AttemptError, Progress, deeper_tasks.Page)}
{_values(deeper_tasks.Statistics, QueueStatistics, WorkersSummary)}
{_values(deeper_tasks.Overview, QueueOverview, WorkerOverview)}
{_values(deeper_tasks.RecurringTask, deeper_tasks.RecurringRun, deeper_tasks.Finding)}
### Enumerations

{_enumerations(deeper_tasks.State, WaitReason, deeper_tasks.CancelOutcome)}
{_enumerations(deeper_tasks.RunOutcome, deeper_tasks.Severity)}
## Errors

They are in `deeper_tasks.errors`.

```text
{_error_tree()}
```

{_errors()}
## Testing

In `deeper_tasks.testing`; [the guide](../how-to/test-your-application.md) shows it at work. pytest finds the fixture
`task_kit` by itself, given the ini option `deeper_tasks_manager`.

{_functions(testing.use_memory, testing.use_store)}
{_class(TaskKit, ["inline", *_SESSION], also=KitSession)}
{_class(testing.Summary)}
{_values(testing.Run)}
{_enumerations(testing.RunEnd)}
{_class(testing.FaultyBackend, ["fail", "delay", "hold", "drop_notifications", "restore", "called"], is_made=True)}
{_class(Fault, ["end"])}
### BackendConformance

{docstrings.text(testing.BackendConformance)}"""


def _manager() -> str:
    parts: dict[str, list[str]] = {group: [] for group in _GROUPS}
    for kind in (BackgroundTaskManager, Facade):
        for group, name, thing in docstrings.members(kind):
            if group in parts:
                parts[group].append(_titled(name, thing))
    for group, (_, area) in _GROUPS.items():
        for _, name, thing in docstrings.members(area) if area is not None else ():
            if name not in _NOT_TO_BE_CALLED:
                parts[group].append(_titled(name, thing))
    flat = [f"### {_GROUPS[group][0]}\n\n" + "\n".join(shown) for group, shown in parts.items()]
    return "\n".join(flat + [_namespace(name, area) for name, area in _NAMESPACES.items()])


def _namespace(name: str, area: type) -> str:
    functions = (_titled(f"{name}.{each}", thing) for _, each, thing in docstrings.members(area))
    return f"### {name.capitalize()}: manager.{name}\n\n{docstrings.text(area)}\n" + "\n".join(functions)


def _titled(name: str, thing: Any) -> str:
    return f"#### {name}\n\n{docstrings.member(thing)}"


def _functions(*functions: Callable[..., Any]) -> str:
    return "\n".join(f"### {each.__name__}\n\n{docstrings.function(each)}" for each in functions)


def _class(kind: type, names: list[str] | None = None, *, also: type | None = None, is_made: bool = False) -> str:
    found = [member for each in (kind, also) if each is not None for member in docstrings.members(each)]
    described = [(name, thing, docstrings.answer(thing)) for _, name, thing in found]
    shown = [each for each in described if names is None or each[0] in names or each[2] is not None]
    about = docstrings.constructor(kind) if is_made else docstrings.text(kind)
    properties = [
        [f"`{name}`", f"`{answer}`", one_line(inspect.getdoc(thing) or "")]
        for name, thing, answer in shown
        if answer is not None
    ]
    return "\n".join(
        [
            f"### {kind.__name__}\n\n{about}",
            *([table(["property", "type", "meaning"], properties)] if properties else []),
            *(
                f"#### {kind.__name__}.{name}\n\n{docstrings.member(thing)}"
                for name, thing, answer in shown
                if answer is None
            ),
        ]
    )


def _values(*kinds: type) -> str:
    return "\n".join(f"### {kind.__name__}\n\n{docstrings.fields(kind)}\n{docstrings.text(kind)}" for kind in kinds)


def _outcomes() -> str:
    kinds = (deeper_tasks.Retry, deeper_tasks.Snooze, deeper_tasks.Fail, deeper_tasks.Cancel, deeper_tasks.Done)
    return "\n".join(docstrings.constructor(kind) for kind in kinds)


def _enumerations(*kinds: type[Enum]) -> str:
    return table(
        ["", "values", "meaning"],
        (
            [f"`{kind.__name__}`", ", ".join(f"`{each.value}`" for each in kind), one_line(kind.__doc__ or "")]
            for kind in kinds
        ),
    )


def _error_tree() -> str:
    return textwrap.dedent((errors.__doc__ or "").partition("\n\n")[2]).rstrip()


def _errors() -> str:
    kinds = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DeeperTasksError)
    ]
    kinds.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    return table(["error", "when"], ([f"`{kind.__name__}`", one_line(inspect.getdoc(kind) or "")] for kind in kinds))
