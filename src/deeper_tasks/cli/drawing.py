"""The drawings: jobs and statistics as panels and tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.output import ago, first_line, local_time, safe
from deeper_tasks.domain.state import WAITING, State
from deeper_tasks.manager import Page, QueueStatistics, Statistics, TaskStatus

_STYLES = {
    State.SCHEDULED: "cyan",
    State.BLOCKED: "cyan",
    State.PENDING: "blue",
    State.RUNNING: "bold blue",
    State.RETRYABLE: "yellow",
    State.COMPLETED: "green",
    State.FAILED: "bold red",
    State.DISCARDED: "bold red",
    State.CANCELLED: "magenta",
}
DAMAGED = "bold magenta"
"""The style of what cannot be read."""
_COUNTS = tuple(field.name for field in msgspec.structs.fields(QueueStatistics) if field.type is int)
_ALWAYS = frozenset({"pending", "running", "completed_today", "failed_today"})
_WIDE = 130


def draw_job(job: TaskStatus) -> RenderableType:
    """Return all that is known of a job."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("state", draw_state(job.status))
    for each in job.damage:
        facts.add_row("damaged", Text(safe(f"{each.field} cannot be read: {each.reason}"), style=DAMAGED))
    for name, fact in _facts(job):
        facts.add_row(name, Text(safe(fact)))
    parts: list[RenderableType] = [facts]
    if job.log:
        parts += [Text("\nlog", style="dim"), Text(safe("\n".join(job.log)))]
    for error in job.errors:
        parts += [
            Text(f"\nattempt {error.attempt} failed {local_time(error.at)}", style="red"),
            Text(safe((error.traceback or f"{error.kind}: {error.message}").rstrip())),
        ]
    return Panel.fit(Group(*parts), title=Text(job.id), title_align="left", border_style=_STYLES[job.status])


def _facts(job: TaskStatus) -> Iterator[tuple[str, str]]:
    yield "task", job.task
    yield "arguments", _call(job)
    yield "queue", f"{job.queue}, priority {job.priority}"
    yield "attempts", f"{job.attempts} of {job.max_attempts}"
    times = {
        "inserted": job.inserted_at,
        "due": job.scheduled_at,
        "started": job.attempted_at,
        "finished": job.finished_at,
        "expires": job.expires_at,
    }
    for name, moment in times.items():
        if moment is not None:
            yield name, local_time(moment)
    if job.status in WAITING:
        yield from _given_back(job)
    if job.progress is not None:
        yield "progress", f"{job.progress.fraction:.0%} {job.progress.message}"
    if job.node is not None:
        yield "worker", job.node
    if job.cancel_requested is not None:
        yield "cancel", f"requested: {job.cancel_requested}"
    if job.tags:
        yield "tags", ", ".join(job.tags)
    if job.meta:
        yield "meta", _json(job.meta)
    if job.status is State.COMPLETED:
        yield "result", _json(job.result) if job.result_omitted is None else f"none: {job.result_omitted}"


def _given_back(job: TaskStatus) -> Iterator[tuple[str, str]]:
    """Why workers do not run it, and since when."""
    for since, why in (
        (job.unknown_since, "no worker that met it knows its task"),
        (job.unfit_since, "its arguments do not fit its task"),
    ):
        if since is not None:
            yield "given back", f"since {local_time(since)}: {why}"


def draw_page(page: Page, *, width: int, with_errors: bool = False) -> RenderableType:
    """Return a table of jobs; what a narrow terminal has no room for is in `draw_job`, errors are if wanted."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("id", no_wrap=True, min_width=36)
    table.add_column("state", no_wrap=True)
    table.add_column("task", overflow="fold")
    table.add_column("when", no_wrap=True)
    is_wide = width >= _WIDE
    if is_wide:
        table.add_column("queue", overflow="fold")
        table.add_column("attempts", justify="right")
    if is_wide or with_errors:
        table.add_column("last error", overflow="fold")
    for job in page.entries:
        row = [Text(job.id), _marked(draw_state(job.status), job), Text(safe(job.task)), Text(_when(job))]
        if is_wide:
            attempts = f"{job.attempts}/{job.max_attempts}"
            row += [Text(safe(job.queue)), Text(attempts)]
        if is_wide or with_errors:
            row.append(Text(first_line(job.last_error or "")))
        table.add_row(*row)
    return table


def draw_statistics(statistics: Statistics) -> RenderableType:
    """Return the counts of each queue, without states in which there is no job."""
    queues = sorted(statistics.queues.items())
    counts = [name for name in _COUNTS if name in _ALWAYS or any(_count(queue, name) for _, queue in queues)]
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("queue", overflow="fold")
    for name in counts:
        table.add_column(name.replace("_", " "), justify="right", min_width=max(map(len, name.split("_"))))
    for name, queue in queues:
        label = f"{safe(name)} (paused)" if queue.is_paused else safe(name)
        table.add_row(Text(label), *(_number(_count(queue, each)) for each in counts))
    return table


def _count(queue: QueueStatistics, name: str) -> int:
    count: int = getattr(queue, name)
    return count


def _number(count: int) -> Text:
    return Text(f"{count:,}", style="" if count else "dim")


def draw_state(state: State) -> Text:
    """Return a state in its colour."""
    return Text(state.value, style=_STYLES[state])


def _marked(text: Text, job: TaskStatus) -> Text:
    return Text.assemble(text, (" damaged", DAMAGED)) if job.damage else text


def _when(job: TaskStatus) -> str:
    said: tuple[str, datetime] = ("due", job.scheduled_at)
    if job.finished_at is not None:
        said = ("ended", job.finished_at)
    elif job.status is State.RUNNING and job.attempted_at is not None:
        said = ("started", job.attempted_at)
    return f"{said[0]} {ago(said[1])}"


def _call(job: TaskStatus) -> str:
    return ", ".join([*map(_json, job.args), *(f"{name}={_json(value)}" for name, value in job.kwargs.items())])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
