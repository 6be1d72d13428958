"""The door: what a caller says beside the options of a task, refused before anything is done with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks import TaskCall

_MOST_RUNS = 1_000


def check_text(name: str, value: object) -> None:
    """Refuse what is no text that a store could keep; None is none given. Raises InvalidOptionError."""
    if value is not None and not (isinstance(value, str) and is_whole(value)):
        raise InvalidOptionError(f"{name!r} cannot be {value!r}; give a text")


def is_whole(text: str) -> bool:
    """Whether a text has no half characters, which no store keeps."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def check_runs(next_runs: object) -> None:
    """Refuse what is no number of due times to look ahead. Raises InvalidOptionError."""
    if not isinstance(next_runs, int) or isinstance(next_runs, bool) or not 1 <= next_runs <= _MOST_RUNS:
        raise InvalidOptionError(f"next_runs cannot be {next_runs!r}; give a whole number from 1 to {_MOST_RUNS}")


def check_progress(on_progress: object) -> None:
    """Refuse what could not be told of batches: it would fail after the first. Raises InvalidOptionError."""
    if on_progress is None:
        return
    if not callable(on_progress) or inspect.iscoroutinefunction(on_progress):
        raise InvalidOptionError(
            f"on_progress cannot be {on_progress!r}; give a plain function that takes the number of jobs so far"
        )


def to_calls(calls: object) -> list[TaskCall]:
    """Return the calls. Raises InvalidOptionError."""
    listed: list[Any] = list(calls) if isinstance(calls, Iterable) else [calls]
    for index, call in enumerate(listed):
        if not isinstance(call, TaskCall):
            message = f"calls[{index}] cannot be a `{type(call).__qualname__}`; give a list of calls: [task.call(…), …]"
            raise InvalidOptionError(message)
    return listed


def to_queues(queues: object) -> frozenset[str]:
    """Return names of queues. Raises InvalidOptionError."""
    if isinstance(queues, str) or not isinstance(queues, Iterable):
        raise InvalidOptionError(f"queues cannot be {queues!r}; give a list of names")
    return frozenset(queues)
