"""The progress bar: how far long work has come, on a terminal's stderr and nowhere else."""

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
    Show a bar while the work lasts; yields what is to be told how many are done.

    `total` is asked only if the bar is drawn. Where nobody looks, nothing is written.
    """
    progress = None if target.as_json else _progress()
    if progress is None:
        yield _ignore
        return
    with progress:
        task = progress.add_task(title, total=None if total is None else total())

        def tell(done: int) -> None:
            progress.update(task, completed=done)

        yield tell


@contextmanager
def spinner(target: Target, title: str) -> Iterator[Callable[[str], None]]:
    """Show what is done now, as long as nothing can tell how much there is; yields what is to be told."""
    progress = None if target.as_json else _progress()
    if progress is None:
        yield _ignore
        return
    with progress:
        task = progress.add_task(title, total=None)

        def tell(what: str) -> None:
            progress.update(task, description=f"{title}: {what}")

        yield tell


def count_of(manager: BackgroundTaskManager, conditions: Conditions) -> Total:
    """Return what counts the jobs that meet conditions."""
    return lambda: manager.sync.list_tasks(per_page=1, **conditions).total_entries


def _ignore(_: object) -> None:
    """Take no notice."""


def _progress() -> Progress | None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)
