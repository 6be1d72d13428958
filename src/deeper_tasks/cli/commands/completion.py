"""The completion: names that a shell suggests for a line, and the command `deeper completion`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem, get_completion_class

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.shells import VARIABLE, know_shells
from deeper_tasks.cli.suggestions import found, items
from deeper_tasks.cli.target import Target

_JOBS_READ = 200
"""The newest jobs, whose tasks are suggested."""

Names = Callable[[BackgroundTaskManager], Iterable[str]]


@click.command(
    epilog="""\b
Examples:
  deeper completion bash > ~/.local/share/bash-completion/completions/deeper
  deeper completion zsh > ~/.zfunc/_deeper      (with ~/.zfunc in fpath)
  deeper completion fish > ~/.config/fish/completions/deeper.fish
  eval "$(deeper completion bash)"              (for this shell only)"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """
    Print the script that lets a shell complete commands, options, states and names.

    The names of queues, tasks and recurring tasks come from the store and the
    application that the command line names so far, or the settings; where they do
    not answer within a second there are none. Managers, as MODULE:MANAGER, are
    looked for in the files of the working folder.
    """
    know_shells()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "deeper", VARIABLE).source())


def complete_queue(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the queues of the store and of the application that begin so."""
    return items(_queues(context), begun)


def complete_queues(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return how the last of several queues, `NAME:SLOTS,…`, can go on."""
    before, comma, _last = begun.rpartition(",")
    return items((f"{before}{comma}{name}:" for name in _queues(context)), begun)


def complete_task(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the tasks of the application, and those that the store knows, that begin so."""
    return items(_tasks(context), begun)


def complete_module(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the modules of the known tasks that begin so."""
    return items((task.rpartition(".")[0] for task in _tasks(context)), begun)


def complete_schedule(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the recurring tasks of the store whose names begin so."""
    names = _ask(context, in_store=lambda manager: [entry.name for entry in manager.sync.list_recurring_tasks()])
    return items(names, begun)


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
    """Return names from the store that the line names so far, and from its application, as far as they answer."""
    app = context.params.get("app") or context.params.get("application")
    if app is None and "application" in context.params:
        # Where an option has no value yet, click leaves the arguments unread.
        app = next(iter(context.args), None)
    target = Target(url=context.params.get("url"), app=app, as_json=False)

    def ask(names: list[str]) -> None:
        with target.closing(with_tasks=in_application is not None) as manager:
            if in_application is not None:
                names.extend(in_application(manager))
            manager.sync.open(create=False)
            names.extend(in_store(manager))

    return found(ask)
