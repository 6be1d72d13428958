"""The progress bar: shows the progress of long work on stderr, if it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.target import Target
from deeper_tasks.manager.conditions import Conditions

if TYPE_CHECKING:
    from rich.progress import Progress

OnProgress = Callable[[int], None]
Total = Callable[[], int]


@contextmanager
def progress_bar(target: Target, title: str, *, total: Total | None = None) -> Iterator[OnProgress]:
    """
    Show a bar inside the `with`; yield the function to call with the number of finished items.

    `total` is called only if the bar is drawn. If stderr is not a terminal, or the output is JSON, nothing is written.
    """
    progress = None if target.as_json else _progress()
    if progress is None:
        yield _ignore
        return
    with progress:
        task = progress.add_task(title, total=None if total is None else total())

        def update(done: int) -> None:
            progress.update(task, completed=done)

        yield update


@contextmanager
def spinner(target: Target, title: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner inside the `with`, for work of unknown length; yield the function to call with each new step."""
    progress = None if target.as_json else _progress()
    if progress is None:
        yield _ignore
        return
    with progress:
        task = progress.add_task(title, total=None)

        def update(step: str) -> None:
            progress.update(task, description=f"{title}: {step}")

        yield update


def count_of(manager: BackgroundTaskManager, conditions: Conditions) -> Total:
    """Return a function that counts the jobs that meet the conditions."""
    return lambda: manager.sync.list_tasks(per_page=1, **conditions).total_entries


def _ignore(_: object) -> None:
    """Do nothing: no bar is drawn."""


def _progress() -> Progress | None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)
