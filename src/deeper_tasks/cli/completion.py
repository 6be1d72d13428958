"""The completion: names from the store while somebody types, and the command `deeper completion`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from shlex import quote

import click
from click.shell_completion import CompletionItem, get_completion_class

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.target import Target

_PATIENCE = 1.0
"""Seconds after which somebody who types gets no suggestions rather than more waiting."""

_VARIABLE = "_DEEPER_COMPLETE"

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

    The names of queues and of recurring tasks come from the store that the
    command line or the settings name; where it does not answer there are none.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "deeper", _VARIABLE).source())


def complete_queue(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the queues of the store that begin so."""
    return _complete(context, begun, lambda manager: manager.sync.get_statistics().queues)


def complete_schedule(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the recurring tasks of the store whose names begin so."""
    return _complete(context, begun, lambda manager: [entry.name for entry in manager.sync.list_recurring_tasks()])


def _complete(context: click.Context, begun: str, names: Names) -> list[CompletionItem]:
    """Ask in a thread that is left behind when it takes too long: nobody waits for a suggestion."""
    target = Target(url=context.params.get("url"), app=context.params.get("app"), as_json=False)
    found: list[str] = []
    asking = threading.Thread(target=_ask, args=(target, names, found), daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return [CompletionItem(name) for name in sorted(found) if name.startswith(begun) and _is_plain(name)]


def _is_plain(name: str) -> bool:
    """Whether a shell takes a name as it is. What stands on its line is run with Enter: no name may be a command."""
    return quote(name) == name


def _ask(target: Target, names: Names, found: list[str]) -> None:
    with _nothing_said(), suppress(Exception), target.opened() as manager:
        found.extend(names(manager))


@contextmanager
def _nothing_said() -> Iterator[None]:
    """Keep away what an application prints when it is imported: it would be taken for suggestions."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
