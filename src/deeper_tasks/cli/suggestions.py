"""The suggestions for what is typed: managers and modules of the working folder, and what takes time to find."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from shlex import quote

import click
from click.shell_completion import CompletionItem

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.application import find_from_working_folder
from deeper_tasks.cli.manager_search import modules_in, places_in

_PATIENCE = 1.0
"""Seconds after which there are no suggestions, rather than more waiting for the user who types."""


def complete_place(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the managers of the working folder that begin so, else its modules, or the managers of a module."""
    module, colon, _name = begun.partition(":")
    places = items(found(lambda names: names.extend(places_in(Path()))), begun)
    if places:
        return places
    if colon:
        return items(found(lambda names: names.extend(_managers_in(module))), begun)
    return items(found(lambda names: names.extend(f"{each}:" for each in modules_in(Path()))), begun)


def _managers_in(module: str) -> Iterable[str]:
    find_from_working_folder()
    defined = vars(importlib.import_module(module))
    return [f"{module}:{name}" for name, value in defined.items() if isinstance(value, BackgroundTaskManager)]


def found(ask: Callable[[list[str]], None]) -> list[str]:
    """Ask in a thread that is left behind when it takes too long: a suggestion is worth no waiting."""
    names: list[str] = []

    def ask_quietly() -> None:
        with _nothing_said(), suppress(Exception):
            ask(names)

    asking = threading.Thread(target=ask_quietly, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return list(names)


def items(names: Iterable[str], begun: str) -> list[CompletionItem]:
    """Return the names that begin so as suggestions."""
    return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(begun) and _is_plain(name)]


def _is_plain(name: str) -> bool:
    """Whether a shell takes a name as it is. What stands on its line is run with Enter: no name may be a command."""
    return quote(name) == name


@contextmanager
def _nothing_said() -> Iterator[None]:
    """Keep away what an application prints when it is imported: it would be taken for suggestions."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
