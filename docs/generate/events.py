"""The events: their table, with what each carries and how it is logged."""

from __future__ import annotations

import inspect
import logging
from types import ModuleType

import msgspec
from docs.generate.markdown import NOTICE, one_line, table

from deeper_tasks.integrations.events import Event, JobEvent, jobs, queues, schedules, stores, workers
from deeper_tasks.integrations.logs import level_of

_OTHERS = (queues, schedules, workers, stores)


def events() -> str:
    """Return the page."""
    return f"""{NOTICE}
# Events

An event is a frozen value that says what happened. After `manager.subscribe(function, JobFailed, JobDiscarded)` the
manager calls `function` with every event of these kinds; without kinds, with every event. It calls the function in the
thread where the event happened, so the function must not wait. Import the kinds from
`deeper_tasks.integrations.events`. Most events are also written to the logger `deeper_tasks`, at the level shown here;
[the log](logs.md) lists their sentences. `to_dict()` and `to_json()` return an event as plain JSON.

## Of jobs

Each of these events has the fields {_fields(JobEvent)}.
{one_line(_second_part(JobEvent))}

{_table(jobs)}
## Of queues, recurring tasks, workers and the store

{_table(*_OTHERS)}"""


def kinds(*modules: ModuleType) -> list[type[Event]]:
    """Return the kinds of events of some modules, or of all, in the order in which they are written there."""
    found = []
    for module in modules or (jobs, *_OTHERS):
        own = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
        found += sorted(own, key=lambda kind: inspect.getsourcelines(kind)[1])
    return [kind for kind in found if kind is not JobEvent]


def _table(*modules: ModuleType) -> str:
    common = set(JobEvent.__struct_fields__) if modules == (jobs,) else set()
    rows = (
        [f"`{kind.__name__}`", one_line(kind.__doc__ or ""), _fields(kind, common), level(kind)]
        for kind in kinds(*modules)
    )
    return table(["event", "when", "carries", "logged at"], rows)


def level(kind: type[Event]) -> str:
    """Return the name of the level at which an event is logged; the empty text if it is not."""
    found = level_of(kind)
    return "" if found is None else logging.getLevelName(found)


def _fields(kind: type[Event], common: set[str] | None = None) -> str:
    return ", ".join(f"`{field.name}`" for field in msgspec.structs.fields(kind) if field.name not in (common or ()))


def _second_part(kind: type[Event]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[2]
