"""Unknown names: names in conditions, such as --queue emials, that no job has; they are often mistyped."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import click

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.rendering.formats import safe
from deeper_tasks.domain.queue_patterns import is_pattern
from deeper_tasks.manager import TaskStatus
from deeper_tasks.manager.conditions import Conditions

_MOST_READ = 1_000
"""The number of jobs that are read for names: the newest jobs, and the newest in the states of the conditions."""
_MOST_NAMED = 8

_WORDS = {
    "queue": "no job is in the queue",
    "task": "no job has the task",
    "worker_module": "no job has a task of the module",
    "tag": "no job has the tag",
}


def warn_of_unknown_names(manager: BackgroundTaskManager, conditions: Conditions) -> None:
    """
    Warn on stderr of each name in the conditions that no job of any state has, and list the existing names.

    Call it if no job meets the conditions. A queue that a worker serves is known, even if it has no job.
    """
    for condition, words in _WORDS.items():
        name = conditions.get(condition)
        if not isinstance(name, str) or not _is_unknown(manager, condition, name):
            continue
        known = _known(manager, condition, conditions)
        if name not in known:
            click.echo(f"deeper: {safe(f'{words} {name!r}; {_described(condition, name, known)}')}", err=True)


def _is_unknown(manager: BackgroundTaskManager, condition: str, name: str) -> bool:
    page = manager.sync.list_tasks(per_page=1, **{condition: name})  # type: ignore[arg-type]
    return page.total_is_exact and not page.total_entries


def _known(manager: BackgroundTaskManager, condition: str, conditions: Conditions) -> list[str]:
    """Return the existing names: all queues, or the tasks, modules and tags of the newest jobs."""
    if condition == "queue":
        return [queue.name for queue in manager.sync.get_overview().queues]
    jobs = list(manager.sync.list_tasks(per_page=_MOST_READ).entries)
    if "status" in conditions:
        jobs += manager.sync.list_tasks(per_page=_MOST_READ, status=conditions["status"]).entries
    return sorted({name for job in jobs for name in _names(job, condition)})


def _names(job: TaskStatus, condition: str) -> Iterable[str]:
    if condition == "tag":
        return job.tags
    name = job.task if condition == "task" else job.worker
    return [name] if name else []


def _described(condition: str, name: str, known: list[str]) -> str:
    what = condition.rpartition("_")[2]
    if not known:
        return f"there is no {what} yet"
    close = get_close_matches(name, known, n=_MOST_NAMED)
    whole = [each for each in known if each.endswith(f".{name}")]
    first = dict.fromkeys([*whole, *close, *known])
    shown = sorted(list(first)[:_MOST_NAMED])
    more = f" and {len(known) - len(shown):,} more" if len(known) > len(shown) else ""
    return f"there are: {', '.join(shown)}{more}{_advice(what, name, whole, close)}"


def _advice(what: str, name: str, whole: list[str], close: list[str]) -> str:
    if whole:
        return f"; write the full name of a {what}: {' or '.join(whole[:_MOST_NAMED])}"
    if is_pattern(name):
        return f"; write the full name of a {what}, patterns are not supported here"
    return f"; did you mean {close[0]!r}?" if close else ""
