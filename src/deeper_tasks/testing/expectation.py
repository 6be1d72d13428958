"""An expectation: the conditions of a test for an enqueued job, and how far a job is from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict, Unpack

import msgspec
from msgspec import Struct

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks import Task, TaskRegistry

Moment = datetime | timedelta | tuple[datetime, datetime]
"""When: about a time, about so long from now, or in a window, from its first to its last moment."""


class Wanted(TypedDict, total=False):
    """
    The conditions for a job. All of those given must hold.

    `args` and `kwargs` are compared by parameter: `kwargs={"user_id": 42}` fits
    a job enqueued with `42` in that place. `tags` and `meta` fit a job that has
    more of them. `scheduled_at` may be off by `tolerance`, 1 second by default.
    `status` is a state or several.
    """

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    priority: int
    status: str | Iterable[str]
    scheduled_at: Moment
    tolerance: timedelta
    tags: Iterable[str]
    meta: Mapping[str, Any]


class Finding(Struct, frozen=True, kw_only=True):
    """The value of one field of a job, and whether it fits."""

    field: str
    found: str
    fits: bool


class Check(Struct, frozen=True, kw_only=True):
    """One condition: in words, and the function that looks at a job for it."""

    field: str
    wanted: str
    look: Callable[[Job], tuple[str, bool]]

    def of(self, job: Job) -> Finding:
        """Look at a job."""
        found, fits = self.look(job)
        return Finding(field=self.field, found=found, fits=fits)


class Expectation:
    """
    The conditions for a job, as checks.

    Raises:
        InvalidArgumentsError: the task takes no such arguments.
        InvalidOptionError: a condition can hold for no job.
    """

    def __init__(
        self,
        task: Task[..., Any] | str | None,
        *,
        registry: TaskRegistry,
        now: datetime,
        **wanted: Unpack[Wanted],
    ) -> None:
        unknown = wanted.keys() - Wanted.__annotations__.keys()
        if unknown:
            known = ", ".join(Wanted.__annotations__)
            raise InvalidOptionError(f"{min(unknown)!r} is not a condition for jobs; there are: {known}")
        self.task_name = task.name if isinstance(task, Task) else task
        self.checks: list[Check] = []
        if self.task_name is not None:
            name = self.task_name
            self._add("task", name, lambda job: (job.task, job.task == name))
        if "args" in wanted or "kwargs" in wanted:
            known_task = task if isinstance(task, Task) else registry.get(task or "")
            self._add_arguments(known_task, wanted.get("args", ()), wanted.get("kwargs", {}))
        self._add_equals("queue", wanted, lambda job: job.queue)
        self._add_equals("priority", wanted, lambda job: job.priority)
        if "status" in wanted:
            self._add_status(wanted["status"])
        if "scheduled_at" in wanted:
            self._add_time(wanted["scheduled_at"], wanted.get("tolerance", timedelta(seconds=1)), now)
        if "tags" in wanted:
            self._add_tags(wanted["tags"])
        if "meta" in wanted:
            self._add_meta(wanted["meta"])

    def findings(self, job: Job) -> list[Finding]:
        """Return what was found of each thing that is wanted."""
        return [check.of(job) for check in self.checks]

    def fits(self, job: Job) -> bool:
        """Whether all of it holds of a job."""
        return all(check.look(job)[1] for check in self.checks)

    def _add(self, field: str, wanted: str, look: Callable[[Job], tuple[str, bool]]) -> None:
        self.checks.append(Check(field=field, wanted=wanted, look=look))

    def _add_equals(self, field: str, wanted: Wanted, value_of: Callable[[Job], object]) -> None:
        if field in wanted:
            value = wanted[field]  # type: ignore[literal-required]
            self._add(field, repr(value), lambda job: (repr(value_of(job)), value_of(job) == value))

    def _add_arguments(self, task: Task[..., Any] | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if isinstance(args, str):
            raise InvalidOptionError(f"args cannot be {args!r}; give a list: args=[{args!r}]")
        wanted = _by_place(args, kwargs) if task is None else task.signature.by_parameter(args, kwargs)

        def look(job: Job) -> tuple[str, bool]:
            found: dict[Any, Any] | None = None
            if task is not None and job.task == task.name:
                found = task.signature.stored_by_parameter(job.arguments)
            if found is None:
                found = _by_place(*msgspec.json.decode(job.arguments))
            return _call(found), all(name in found and found[name] == value for name, value in wanted.items())

        self._add("arguments", _call(wanted), look)

    def _add_status(self, status: str | Iterable[str]) -> None:
        names = [status] if isinstance(status, str) else list(status)
        try:
            states = frozenset(map(State, names))
        except ValueError as error:
            raise InvalidOptionError(f"status {status!r} is none of {', '.join(State)}") from error
        self._add("status", " or ".join(sorted(states)), lambda job: (job.state.value, job.state in states))

    def _add_time(self, moment: Moment, tolerance: timedelta, now: datetime) -> None:
        if isinstance(moment, tuple):
            first, last = moment
            wanted = f"{_time(first)} to {_time(last)}"
        else:
            middle = now + moment if isinstance(moment, timedelta) else moment
            first, last = middle - tolerance, middle + tolerance
            wanted = f"{_time(middle)} (give or take {readable(tolerance)})"
        for each in (first, last):
            if each.utcoffset() is None:
                raise InvalidOptionError(f"scheduled_at cannot be {each!r}: a datetime needs a time zone")
        self._add("scheduled_at", wanted, lambda job: (_time(job.scheduled_at), first <= job.scheduled_at <= last))

    def _add_tags(self, tags: Iterable[str]) -> None:
        wanted = [tags] if isinstance(tags, str) else list(tags)
        self._add(
            "tags", ", ".join(wanted), lambda job: (", ".join(job.options.tags), set(wanted) <= set(job.options.tags))
        )

    def _add_meta(self, meta: Mapping[str, Any]) -> None:
        wanted = msgspec.to_builtins(dict(meta))

        def look(job: Job) -> tuple[str, bool]:
            found = job.options.meta
            return repr(found), all(key in found and found[key] == value for key, value in wanted.items())

        self._add("meta", repr(wanted), look)


def _by_place(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[Any, Any]:
    """Return arguments by position or name, where no signature says which is which."""
    by_place: dict[Any, Any] = dict(enumerate(args))
    arguments: dict[Any, Any] = msgspec.to_builtins(by_place | dict(kwargs))
    return arguments


def _call(arguments: Mapping[Any, Any]) -> str:
    parts = (repr(value) if isinstance(name, int) else f"{name}={value!r}" for name, value in arguments.items())
    return ", ".join(parts)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds" if moment.microsecond else "seconds")
