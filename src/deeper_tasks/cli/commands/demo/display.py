"""The display of the demonstration: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deeper_tasks import State, TaskStatus
from deeper_tasks.cli.commands.demo.scenario import Display
from deeper_tasks.cli.rendering.formats import first_line, local_clock
from deeper_tasks.cli.rendering.jobs import render_state
from deeper_tasks.cli.rendering.output import console

_TICK = "demo.tick"


@contextmanager
def opened_display() -> Iterator[Display]:
    """Yield a display: a table if stdout is a terminal, else lines."""
    screen = console()
    if not sys.stdout.isatty() or screen.is_dumb_terminal:
        yield LineDisplay()
        return
    with Live(console=screen, auto_refresh=False) as live:
        yield lambda jobs: live.update(render_jobs(jobs, screen), refresh=True)


class LineDisplay:
    """Writes a line for each change of a job's state or attempt."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[State, int]] = {}

    def __call__(self, jobs: Sequence[TaskStatus]) -> None:
        """Write the changes since the last call."""
        for job in jobs:
            now = (job.status, job.attempts)
            if self._seen.get(job.id) != now:
                self._seen[job.id] = now
                moment = job.finished_at or job.attempted_at or job.inserted_at
                click.echo(f"{local_clock(moment)}  {job.status:<10} {_label(job)}  {_outcome(job)}".rstrip())


def render_jobs(jobs: Sequence[TaskStatus], screen: Console) -> RenderableType:
    """Return the jobs as a table; all jobs of `demo.tick` share one line."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("job", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=10)
    table.add_column("attempts", justify="right")
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs:
        if job.task != _TICK:
            table.add_row(
                _label(job), render_state(job.status), f"{job.attempts}/{job.max_attempts}", _detail(job, screen)
            )
    ticks = sum(job.task == _TICK and job.status is State.COMPLETED for job in jobs)
    table.add_row("demo.tick", Text("recurring", style="cyan"), "", f"each second, {ticks} so far")
    return Group(Text("a worker runs jobs on a fresh SQLite file; Ctrl-C ends", style="dim"), table)


def _label(job: TaskStatus) -> str:
    return f"{job.task}({', '.join(map(repr, job.args))})"


def _detail(job: TaskStatus, screen: Console) -> RenderableType:
    if job.status is State.RUNNING and job.progress is not None:
        bar = ProgressBar(total=1.0, completed=job.progress.fraction, width=min(30, screen.width // 4))
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(bar, Text(job.progress.message))
        return grid
    return Text(_outcome(job), style="red" if job.last_error and job.status is not State.COMPLETED else "")


def _outcome(job: TaskStatus) -> str:
    if job.status is State.COMPLETED:
        return "" if job.result is None else str(job.result)
    return first_line(job.last_error or "")
