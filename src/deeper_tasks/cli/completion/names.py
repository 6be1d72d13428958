"""Names: the queues, tasks, modules and recurring tasks that the store and the application know."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.completion.candidates import collect_in_time, matching
from deeper_tasks.cli.target import Target

_JOBS_READ = 200
"""The newest jobs, whose tasks are offered."""

Names = Callable[[BackgroundTaskManager], Iterable[str]]


def complete_queue(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the queues of the store and of the application whose names begin with `begun`."""
    return matching(_queues(context), begun)


def complete_queues(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return completions of the last queue in a list such as `NAME:SLOTS,NAME:SLOTS`."""
    before, comma, _last = begun.rpartition(",")
    return matching((f"{before}{comma}{name}:" for name in _queues(context)), begun)


def complete_task(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the tasks of the application and of the store whose names begin with `begun`."""
    return matching(_tasks(context), begun)


def complete_module(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the modules of the known tasks whose names begin with `begun`."""
    return matching((task.rpartition(".")[0] for task in _tasks(context)), begun)


def complete_schedule(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the recurring tasks of the store whose names begin with `begun`."""
    names = _ask(context, in_store=lambda manager: [entry.name for entry in manager.sync.list_recurring_tasks()])
    return matching(names, begun)


def _queues(context: click.Context) -> list[str]:
    def in_application(manager: BackgroundTaskManager) -> Iterable[str]:
        yield from manager.settings.queues
        yield from (task.request.queue for task in manager.registry if isinstance(task.request.queue, str))

    return _ask(context, in_store=lambda manager: manager.sync.get_statistics().queues, in_application=in_application)


def _tasks(context: click.Context) -> list[str]:
    def in_store(manager: BackgroundTaskManager) -> Iterable[str]:
        yield from (job.task for job in manager.sync.list_tasks(per_page=_JOBS_READ).entries)
        yield from (entry.task for entry in manager.sync.list_recurring_tasks())

    return _ask(context, in_store=in_store, in_application=lambda manager: [task.name for task in manager.registry])


def _ask(context: click.Context, *, in_store: Names, in_application: Names | None = None) -> list[str]:
    """Return names from the store and the application of the unfinished command line, if they answer in time."""
    app = context.params.get("app") or context.params.get("application")
    if app is None and "application" in context.params:
        # While an option has no value yet, click does not assign the arguments to their parameters.
        app = next(iter(context.args), None)
    target = Target(url=context.params.get("url"), app=app, as_json=False)

    def collect(names: list[str]) -> None:
        with target.closing(with_tasks=in_application is not None) as manager:
            if in_application is not None:
                names.extend(in_application(manager))
            manager.sync.open(create=False)
            names.extend(in_store(manager))

    return collect_in_time(collect)
