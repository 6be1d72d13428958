"""The candidates of a completion: managers and modules of the working folder, and names that take time to find."""

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
"""Seconds after which a search for names is given up, so that the user at the keyboard does not wait longer."""


def complete_place(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """
    Return the managers of the working folder whose names begin with `begun`.

    Without any, the modules of the folder; behind a colon, the managers that the module before it has when imported.
    """
    module, colon, _name = begun.partition(":")
    places = matching(collect_in_time(lambda names: names.extend(places_in(Path()))), begun)
    if places:
        return places
    if colon:
        return matching(collect_in_time(lambda names: names.extend(_managers_in(module))), begun)
    return matching(collect_in_time(lambda names: names.extend(f"{each}:" for each in modules_in(Path()))), begun)


def _managers_in(module: str) -> Iterable[str]:
    find_from_working_folder()
    defined = vars(importlib.import_module(module))
    return [f"{module}:{name}" for name, value in defined.items() if isinstance(value, BackgroundTaskManager)]


def collect_in_time(collect: Callable[[list[str]], None]) -> list[str]:
    """
    Return the names that `collect` appends to its list within a second.

    It runs in a thread that is left behind after that time. Its errors are dropped: they yield no candidates.
    """
    names: list[str] = []

    def collect_quietly() -> None:
        with _silenced(), suppress(Exception):
            collect(names)

    collector = threading.Thread(target=collect_quietly, daemon=True)
    collector.start()
    collector.join(_PATIENCE)
    return list(names)


def matching(names: Iterable[str], begun: str) -> list[CompletionItem]:
    """Return the names that begin with `begun`, sorted, as candidates."""
    return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(begun) and _is_plain(name)]


def _is_plain(name: str) -> bool:
    """Whether a shell needs no quotes around a name: Enter runs the completed line, so no name may hold a command."""
    return quote(name) == name


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop the text that an application prints at its import: the shell would take it for candidates."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
