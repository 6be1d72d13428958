"""The events: their table, with what each carries and how it is logged."""

from __future__ import annotations

import inspect
import logging

import msgspec
from docs.generate.markdown import NOTICE, one_line, table

from deeper_tasks.integrations import events as module
from deeper_tasks.integrations.events import Event, JobEvent
from deeper_tasks.integrations.logs import level_of


def events() -> str:
    """Return the page."""
    return f"""{NOTICE}
# Events

An event tells what happened, as a frozen value. `manager.subscribe(function, JobFailed, JobDiscarded)` has `function`
called with every event of these kinds, or of all kinds where none is named, in the thread where it happened; it must
not wait. The kinds are in `deeper_tasks.integrations.events`. Most are written to the logger `deeper_tasks` as well, at
the level shown. `to_dict()` and `to_json()` give an event as plain JSON.

## Of jobs

Each of them carries {_fields(JobEvent)}.
{one_line(_second_part(JobEvent))}

{_table(job=True)}
## Of queues, recurring tasks, workers and the store

{_table(job=False)}"""


def _table(*, job: bool) -> str:
    kinds = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Event) and kind not in {Event, JobEvent} and issubclass(kind, JobEvent) == job
    ]
    kinds.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    common = set(JobEvent.__struct_fields__) if job else set()
    rows = ([f"`{kind.__name__}`", one_line(kind.__doc__ or ""), _fields(kind, common), _level(kind)] for kind in kinds)
    return table(["event", "when", "carries", "logged at"], rows)


def _fields(kind: type[Event], common: set[str] | None = None) -> str:
    return ", ".join(f"`{field.name}`" for field in msgspec.structs.fields(kind) if field.name not in (common or ()))


def _level(kind: type[Event]) -> str:
    level = level_of(kind)
    return "" if level is None else logging.getLevelName(level)


def _second_part(kind: type[Event]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[2]
