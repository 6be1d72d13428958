"""The drawings: jobs and statistics for people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.output import local_time, safe, share
from deeper_tasks.cli.tracebacks import own_frames
from deeper_tasks.domain.state import WAITING, State
from deeper_tasks.manager import QueueStatistics, Statistics, TaskStatus

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
_COUNTS = (*(state.value for state in State), "completed_today", "failed_today")
_FACT = 12
"""Columns from the name of a fact to what it is."""
_ALWAYS = frozenset({"pending", "running", "completed_today", "failed_today"})


def draw_facts(job: TaskStatus) -> Iterator[Text]:
    """Return what is known of a job, a fact a line; it is not to be wrapped, so that it can be copied."""
    facts = [("id", Text(job.id)), ("state", draw_state(job.status))]
    unreadable = [safe(f"{each.field} cannot be read: {each.reason}") for each in job.damage]
    facts += [("damaged", Text(text, style=DAMAGED)) for text in unreadable]
    facts += [(name, Text(safe(fact).replace("\n", "\n" + " " * _FACT))) for name, fact in _facts(job)]
    for name, fact in facts:
        yield Text.assemble((name.ljust(_FACT), "dim"), fact)


def draw_texts(job: TaskStatus, *, is_full: bool = False) -> Iterator[Text]:
    """
    Return the log and the errors of a job, as they can be copied: without borders, and not to be wrapped.

    Tracebacks have the frames of the job's own code; all frames only if `is_full`.
    """
    if job.log:
        yield Text("\nlog", style="dim")
        yield Text(safe("\n".join(job.log)))
    is_cut = False
    for error in job.errors:
        yield Text(f"\nattempt {error.attempt} failed {local_time(error.at)}", style="red")
        whole = (error.traceback or f"{error.kind}: {error.message}").rstrip()
        shown = whole if is_full else own_frames(whole)
        is_cut = is_cut or shown != whole
        yield Text(safe(shown))
    if is_cut:
        yield Text("\nwithout the frames of deeper_tasks; --full shows them", style="dim")


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


def draw_statistics(statistics: Statistics) -> RenderableType:
    """Return the counts of each queue and, once something has ended, its error rates; no state in which none is."""
    queues = sorted(statistics.queues.items())
    has_rates = any(queue.ended_today or queue.ended_last_hour for _, queue in queues)
    counts = [name for name in _COUNTS if name in _ALWAYS or any(_count(queue, name) for _, queue in queues)]
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("queue", overflow="fold")
    for name in counts:
        table.add_column(name.replace("_", " "), justify="right", min_width=max(map(len, name.split("_"))))
    for name in ("errors today", "last hour") if has_rates else ():
        table.add_column(name, justify="right", min_width=max(map(len, name.split())))
    for name, queue in queues:
        label = f"{safe(name)} (paused)" if queue.is_paused else safe(name)
        rates = (queue.error_rate_today, queue.error_rate_last_hour) if has_rates else ()
        table.add_row(Text(label), *(_number(_count(queue, each)) for each in counts), *map(draw_rate, rates))
    return table


def draw_rate(rate: float | None) -> Text:
    """Return an error rate, in the background where there were no errors."""
    return Text(share(rate), style="red" if rate else "dim")


def _count(queue: QueueStatistics, name: str) -> int:
    count: int = getattr(queue, name)
    return count


def _number(count: int) -> Text:
    return Text(f"{count:,}", style="" if count else "dim")


def draw_state(state: State) -> Text:
    """Return a state in its colour."""
    return Text(state.value, style=_STYLES[state])


def _call(job: TaskStatus) -> str:
    return ", ".join([*map(_json, job.args), *(f"{name}={_json(value)}" for name, value in job.kwargs.items())])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
