"""The schedule of a task, from its definition: `@task(cron="0 3 * * *")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from msgspec import Struct

from deeper_tasks.domain.cron import Recurrence, parse_recurrence
from deeper_tasks.domain.schedule import MissedRuns, Overlap
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks.quoting import quoted

SCHEDULE_OPTIONS = ("cron", "timezone", "missed_runs", "overlap")

_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Policy = TypeVar("Policy", MissedRuns, Overlap)


class TaskSchedule(Struct, frozen=True, kw_only=True):
    """The due times of a task, with the policies for missed runs and for overlapping runs."""

    recurrence: Recurrence
    missed_runs: MissedRuns = MissedRuns.ONCE
    overlap: Overlap = Overlap.ALLOW


def parse_schedule(function: Callable[..., Any], given: Mapping[str, Any]) -> TaskSchedule | None:
    """
    Return the schedule of a task from its options; None if it has none.

    Raises:
        InvalidOptionError: the expression, the zone or a policy cannot be used, a zone or policy is given without
            cron, or the function cannot be called without arguments.
    """
    if "cron" not in given:
        _refuse_without_cron(given)
        return None
    if given["cron"] is None:
        return None
    _refuse_required_parameters(function)
    return TaskSchedule(
        recurrence=parse_recurrence(given["cron"], given.get("timezone", "UTC")),
        missed_runs=parse_policy(MissedRuns, "missed_runs", given.get("missed_runs"), default=MissedRuns.ONCE),
        overlap=parse_policy(Overlap, "overlap", given.get("overlap"), default=Overlap.ALLOW),
    )


def parse_policy(kind: type[Policy], option: str, value: object, *, default: Policy) -> Policy:
    """Return the policy of this name, or the default for None; raise InvalidOptionError if the name is unknown."""
    if value is None:
        return default
    try:
        return kind(cast("str", value))
    except ValueError as error:
        known = ", ".join(repr(each.value) for each in kind)
        message = f"option {option!r} cannot be {quoted(value)}; use one of {known}"
        raise InvalidOptionError(message) from error


def _refuse_without_cron(given: Mapping[str, Any]) -> None:
    for option in SCHEDULE_OPTIONS:
        if option in given:
            message = (
                f"option {option!r} ({quoted(given[option])}) has no effect alone; add an option such as "
                "cron='0 3 * * *'"
            )
            raise InvalidOptionError(message)


def _refuse_required_parameters(function: Callable[..., Any]) -> None:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is inspect.Parameter.empty and parameter.kind not in _COLLECTING:
            message = (
                f"option 'cron' calls {function.__qualname__} without arguments, but its parameter "
                f"{parameter.name!r} has no default; add a default, or use schedule_recurring_task(…, args=[…])"
            )
            raise InvalidOptionError(message)
