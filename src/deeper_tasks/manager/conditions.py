"""The conditions of a list, checked before a store gets them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from types import ModuleType
from typing import Any, TypedDict, Unpack

from deeper_tasks.backends.protocol import JobFilter, SortKey
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.manager.input_checks import check_text
from deeper_tasks.tasks import Task
from deeper_tasks.tasks.options import LONGEST_DURATION
from deeper_tasks.tasks.registry import dotted_name

_RUNNING = frozenset({State.RUNNING})
_MOST_PER_PAGE = 1_000
_LAST_PAGE = 1_000_000


class Conditions(TypedDict, total=False):
    """
    The conditions that jobs must meet, all of them: a status or one of several, the queue, the task, a tag.

    `worker_module` selects the tasks of a module or class, and of those below it, whatever their names are.
    """

    status: str | Iterable[str] | None
    queue: str | None
    worker_module: str | ModuleType | type | None
    task: str | Task[..., Any] | None
    tag: str | None


def to_filter(**conditions: Unpack[Conditions]) -> JobFilter:
    """Return the conditions as a store takes them. Raises InvalidOptionError."""
    unknown = conditions.keys() - Conditions.__annotations__.keys()
    if unknown:
        known = ", ".join(Conditions.__annotations__)
        raise InvalidOptionError(f"the condition {min(unknown)!r} is unknown; there are: {known}")
    status, module, task = conditions.get("status"), conditions.get("worker_module"), conditions.get("task")
    module = dotted_name(module) if isinstance(module, ModuleType | type) else module
    task = task.name if isinstance(task, Task) else task
    queue, tag = conditions.get("queue"), conditions.get("tag")
    for name, text in (("queue", queue), ("worker_module", module), ("task", task), ("tag", tag)):
        check_text(name, text)
    states = None if status is None else frozenset(map(_state, _several(status)))
    return JobFilter(
        states=states,
        queue=queue,
        worker_module=module,
        task=task,
        tag=tag,
        # A job that a worker has claimed and not begun is shown as pending.
        has_begun=states == _RUNNING,
    )


def to_sort_key(sort_by: str) -> SortKey:
    """Return the key that a list is sorted by. Raises InvalidOptionError."""
    try:
        return SortKey(sort_by)
    except ValueError as error:
        raise InvalidOptionError(f"sort_by {sort_by!r} is none of {', '.join(SortKey)}") from error


def check_page(page: object, per_page: object) -> None:
    """Refuse a page number or size that cannot be used. Raises InvalidOptionError."""
    if not isinstance(page, int) or not 1 <= page <= _LAST_PAGE:
        raise InvalidOptionError(f"page cannot be {page!r}; pages count from 1 to {_LAST_PAGE}, or give the cursor")
    if not isinstance(per_page, int) or not 1 <= per_page <= _MOST_PER_PAGE:
        raise InvalidOptionError(f"per_page cannot be {per_page!r}; give 1 to {_MOST_PER_PAGE}")


def to_days(option: str, days: object) -> timedelta:
    """Return a number of days. Raises InvalidOptionError."""
    most = LONGEST_DURATION.days
    if not isinstance(days, int | float) or isinstance(days, bool) or not 0 <= days <= most:
        raise InvalidOptionError(f"{option} cannot be {days!r}; give days, 0 or more, at most {most}")
    return timedelta(days=days)


def _several(status: object) -> Iterable[Any]:
    return status if isinstance(status, Iterable) and not isinstance(status, str) else [status]


def _state(status: str) -> State:
    try:
        return State(status)
    except ValueError as error:
        raise InvalidOptionError(f"status {status!r} is none of {', '.join(State)}") from error
