"""The screen: what the demo shows while it runs; live on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from deeper_tasks import Statistics, TaskStatus
from demo.checks import Check
from demo.workers import WorkerProcess

USE_CASES = {"emails": "welcome mails", "media": "video", "maintenance": "nightly clean-up", "sync": "product sync"}
"""The use cases by their queues."""

_PLAIN_WIDTH = 130
_LINE_EVERY_SECONDS = 2.0
_OPEN = ("pending", "running", "retryable", "completed")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How things stand at one moment."""

    statistics: Statistics
    running: Sequence[TaskStatus]
    workers: Sequence[WorkerProcess]
    expected: dict[str, int]

    def count(self, queue: str, state: str) -> int:
        """Return how many jobs of a queue are in a state."""
        counts = self.statistics.queues.get(queue)
        return 0 if counts is None else int(getattr(counts, state))

    def progress(self, queue: str) -> float:
        """Return how many jobs of a queue are done, those under way as the part that they report."""
        parts = [job.progress.fraction for job in self.running if job.queue == queue and job.progress is not None]
        return self.count(queue, "completed") + sum(parts, 0.0)


class Screen:
    """Prints what happens, and below it, on a terminal, how things stand."""

    def __init__(self, *, is_plain: bool) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=_PLAIN_WIDTH)
        is_live = self.console.is_terminal and not is_plain and not os.environ.get("CI")
        self._live = Live(console=self.console, auto_refresh=False, transient=True) if is_live else None
        self._started = time.monotonic()
        self._last_line = self._started

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print what happens."""
        self.console.print(f"[dim]{self.elapsed:5.1f} s[/dim]  {text}", soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """Show how things stand: the live part anew, or now and then a line."""
        if self._live is not None:
            self._live.update(_picture(snapshot), refresh=True)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            self.say(f"[dim]       {_line(snapshot)}[/dim]")

    def show_dead_letter(self, status: TaskStatus) -> None:
        """Print a dead letter with the error of each of its attempts."""
        self.say(f"a dead letter: {status.id}, {status.function}({status.args[0]}), {status.status}")
        table = Table("attempt", "at (UTC)", "error", box=box.SIMPLE_HEAD)
        for error in status.errors:
            table.add_row(f"{error.attempt}", f"{error.at:%H:%M:%S.%f}"[:-3], escape(f"{error.kind}: {error.message}"))
        self.console.print(table)

    def show_verdict(self, checks: Sequence[Check]) -> None:
        """Print the summary: what was expected and what is there."""
        table = Table("use case", "checked", "expected", "found", "", title="Summary", box=box.SIMPLE_HEAD)
        before = None
        for check in checks:
            mark = "[green]ok[/green]" if check.holds else "[bold red]DIFFERS[/bold red]"
            name = "" if check.use_case == before else check.use_case
            table.add_row(name, *map(escape, (check.what, check.expected, check.found)), mark)
            before = check.use_case
        self.console.print(table)
        differing = [check for check in checks if not check.holds]
        if differing:
            self.console.print(f"[bold red]{len(differing)} of {len(checks)} checks do not hold[/bold red]")
        else:
            self.console.print(f"[bold green]all {len(checks)} checks hold[/bold green], after {self.elapsed:.1f} s")


def _picture(snapshot: Snapshot) -> RenderableType:
    progress = Table.grid(padding=(0, 2))
    for queue, name in USE_CASES.items():
        total, done = snapshot.expected.get(queue, 1), snapshot.progress(queue)
        progress.add_row(name, ProgressBar(total=total, completed=done, width=40), f"{_number(done)} of {total}")
    columns = Table.grid(padding=(0, 4))
    columns.add_row(_queues(snapshot), _workers(snapshot))
    return Group("", progress, "", columns)


def _queues(snapshot: Snapshot) -> Table:
    table = Table("queue", *_OPEN, "dead", box=box.SIMPLE_HEAD)
    for queue in USE_CASES:
        dead = snapshot.count(queue, "failed") + snapshot.count(queue, "discarded")
        table.add_row(queue, *(f"{snapshot.count(queue, state)}" for state in _OPEN), f"{dead}")
    return table


def _workers(snapshot: Snapshot) -> Table:
    table = Table("worker", "process", "runs", box=box.SIMPLE_HEAD)
    for worker in snapshot.workers:
        queues = Counter(job.queue for job in snapshot.running if worker.runs_as(job.node))
        runs = ", ".join(f"{count} {queue}" for queue, count in sorted(queues.items())) or "-"
        table.add_row(worker.name, f"{worker.pid}", runs if worker.is_alive else _end_of(worker))
    return table


def _number(done: float) -> str:
    return f"{done:.0f}" if done.is_integer() else f"{done:.2f}"


def _end_of(worker: WorkerProcess) -> str:
    return "[red]killed[/red]" if worker.was_killed else "stopped"


def _line(snapshot: Snapshot) -> str:
    parts = []
    for queue in USE_CASES:
        waiting = snapshot.count(queue, "retryable")
        note = f" ({waiting} to be tried again)" if waiting else ""
        parts.append(f"{queue} {_number(snapshot.progress(queue))}/{snapshot.expected.get(queue, 1)}{note}")
    living = sum(worker.is_alive for worker in snapshot.workers)
    return f"{', '.join(parts)}; {living} workers run {len(snapshot.running)} jobs"
