"""Input checks: refuse a caller's values, beside the options of a task, before anything is done with them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.tasks import BlockingTask, BoundTask, TaskCall
from deeper_tasks.tasks.quoting import quoted

_MOST_RUNS = 1_000


def check_text(name: str, value: object) -> None:
    """Refuse a value that is not None and not a text that a store can keep. Raises InvalidOptionError."""
    if value is not None and not (isinstance(value, str) and is_whole(value)):
        raise InvalidOptionError(f"{name!r} cannot be {value!r}; give a text")


def is_whole(text: str) -> bool:
    """Whether a text has no half characters, which no store keeps."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def check_runs(next_runs: object) -> None:
    """Refuse a number of due times that cannot be used. Raises InvalidOptionError."""
    if not isinstance(next_runs, int) or isinstance(next_runs, bool) or not 1 <= next_runs <= _MOST_RUNS:
        raise InvalidOptionError(f"next_runs cannot be {next_runs!r}; give a whole number from 1 to {_MOST_RUNS}")


def check_progress(on_progress: object) -> None:
    """Refuse a value that cannot be called after each batch. Raises InvalidOptionError."""
    if on_progress is None:
        return
    if not callable(on_progress) or inspect.iscoroutinefunction(on_progress):
        raise InvalidOptionError(
            f"on_progress cannot be {on_progress!r}; give a plain function that takes the number of jobs so far"
        )


def no_function(worker: object, function: object) -> str | None:
    """Return the message about what stands where a function's name belongs; None if it may be a name."""
    if isinstance(function, str):
        return None
    way_out = "enqueue_task('module', 'function', […])"
    if isinstance(worker, str) and "." in worker:
        module, _, name = worker.rpartition(".")
        way_out = f"enqueue_task({quoted(module)}, {quoted(name)}, […]) for the task {quoted(worker)}"
    return f"the second argument is the function's name, and cannot be a `{type(function).__qualname__}`: {way_out}"


def no_task(given: object) -> str:
    """Return the error message for a value that is not a task and has no function's name beside it."""
    if inspect.iscoroutine(given):
        # The error reports it, so no warning is needed.
        given.close()
        return (
            f"a task was called where it is to be named: pass the task itself, as in "
            f"enqueue_task({given.__name__}, args=[…])"
        )
    if isinstance(given, BoundTask | BlockingTask):
        return f"{given.task!r} with options enqueues by itself: task.with_options(…).enqueue(…)"
    if isinstance(given, TaskCall):
        return "a call is enqueued by enqueue_many([call]); enqueue_task takes the task, and args=[…]"
    if callable(given) and not inspect.isclass(given):
        name = getattr(given, "__qualname__", None) or quoted(given)
        return f"{name} is a function, and no task; decorate it with @manager.task, and pass what that makes of it"
    if isinstance(given, str | ModuleType) or inspect.isclass(given):
        return f"name the function too: enqueue_task({quoted(given)}, 'function', args){_taken_apart(given)}"
    return f"a task cannot be a `{type(given).__qualname__}`; pass the task, or the names of its module and function"


def _taken_apart(given: object) -> str:
    module, dot, name = given.rpartition(".") if isinstance(given, str) else ("", "", "")
    return f", or where it is named already enqueue_task({quoted(module)}, {quoted(name)}, args)" if dot else ""


def to_calls(calls: object) -> list[TaskCall]:
    """Return the calls. Raises InvalidOptionError."""
    listed: list[Any] = list(calls) if isinstance(calls, Iterable) else [calls]
    for index, call in enumerate(listed):
        if not isinstance(call, TaskCall):
            message = f"calls[{index}] cannot be a `{type(call).__qualname__}`; give a list of calls: [task.call(…), …]"
            for each in listed:
                if inspect.iscoroutine(each):
                    # A coroutine of `task.enqueue(…)`, or of the function. The error reports it: no warning is needed.
                    each.close()
            raise InvalidOptionError(message)
    return listed


def to_queues(queues: object) -> frozenset[str]:
    """Return names of queues. Raises InvalidOptionError."""
    if isinstance(queues, str) or not isinstance(queues, Iterable):
        raise InvalidOptionError(f"queues cannot be {queues!r}; give a list of names")
    return frozenset(queues)
