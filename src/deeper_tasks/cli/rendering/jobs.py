"""Rendering of a job's details, and of the statistics."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from rich.text import Text

from deeper_tasks.cli.rendering.columns import Column, lay_out, least_width
from deeper_tasks.cli.rendering.formats import first_line, local_time, safe, share
from deeper_tasks.cli.rendering.tracebacks import own_frames
from deeper_tasks.domain.state import DEAD_LETTER, WAITING, State
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
"""The style of a field that cannot be read."""
_COUNTS = (*(state.value for state in State), "completed_today", "failed_today")
_FAILED = DEAD_LETTER | {State.RETRYABLE}
"""The states whose jobs show their last error among their facts: the error led to the state."""
_FACT = 12
"""Columns from the start of a fact's name to its value."""
_BY_USE = (
    "pending",
    "running",
    "failed_today",
    "errors_1 h",
    "completed_today",
    "errors_today",
    "retryable",
    "discarded",
    "failed",
    "scheduled",
    "blocked",
    "cancelled",
    "completed",
)
_QUEUE = 16
"""The least number of columns for the name of a queue."""
_ALWAYS = frozenset({"pending", "running", "completed_today", "failed_today"})


def render_facts(job: TaskStatus) -> Iterator[Text]:
    """Yield the facts of a job, one a line; print them without wrapping, so that they can be copied."""
    facts = [("id", Text(job.id)), ("state", render_state(job.status))]
    if job.status in _FAILED and job.last_error is not None:
        facts.append(("error", Text(first_line(job.last_error), style="red")))
    unreadable = [safe(f"{each.field} cannot be read: {each.reason}") for each in job.damage]
    facts += [("damaged", Text(text, style=DAMAGED)) for text in unreadable]
    facts += [(name, Text(safe(fact).replace("\n", "\n" + " " * _FACT))) for name, fact in _facts(job)]
    for name, fact in facts:
        yield Text.assemble((name.ljust(_FACT), "dim"), fact)


def render_texts(job: TaskStatus, *, is_full: bool = False) -> Iterator[Text]:
    """
    Yield the log and the errors of a job; print them without wrapping, so that they can be copied.

    An error equal to that of an earlier attempt is not repeated. Tracebacks have only the frames of the job's own
    code, or all frames if `is_full`.
    """
    if job.log:
        yield Text("\nlog", style="dim")
        yield Text(safe("\n".join(job.log)))
    is_cut = False
    first: dict[str, int] = {}
    for error in job.errors:
        failed = f"\nattempt {error.attempt} failed {local_time(error.at)}"
        whole = (error.traceback or f"{error.kind}: {error.message}").rstrip()
        shown = whole if is_full else own_frames(whole)
        is_cut = is_cut or shown != whole
        if shown in first:
            yield Text(f"{failed}, as attempt {first[shown]}", style="red")
            continue
        first[shown] = error.attempt
        yield Text(failed, style="red")
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
        yield from _waits(job)
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


def _waits(job: TaskStatus) -> Iterator[tuple[str, str]]:
    """Yield the facts that say what the job waits for, why workers do not run it, and since when."""
    if job.waiting_for is not None:
        yield "waits", job.waiting_for.message
    if job.is_quarantined:
        yield "quarantine", "an attempt ended with its process: the next attempt waits for a process of its own"
    for since, why in (
        (job.unknown_since, "no worker that claimed it knows its task"),
        (job.unfit_since, "its arguments do not fit its task"),
    ):
        if since is not None:
            yield "released", f"since {local_time(since)}: {why}"


def render_statistics(statistics: Statistics, *, width: int | None) -> list[Text]:
    """
    Return the counts and the error rates of each queue as lines; states without jobs are left out.

    If the terminal has no room for all columns, the last line names those left out.
    """
    queues = sorted(statistics.queues.items())
    labels = [Text(f"{safe(name)} (paused)" if queue.is_paused else safe(name)) for name, queue in queues]
    counts = {
        name: [_number(_count(queue, name)) for _, queue in queues]
        for name in _COUNTS
        if name in _ALWAYS or any(_count(queue, name) for _, queue in queues)
    }
    if any(queue.ended_today or queue.ended_last_hour for _, queue in queues):
        counts["errors_today"] = [render_rate(queue.error_rate_today) for _, queue in queues]
        counts["errors_1 h"] = [render_rate(queue.error_rate_last_hour) for _, queue in queues]
    columns = {name: Column(name=name.replace("_", "\n"), is_number=True) for name in counts}
    shown = list(counts) if width is None else _fitting(columns, counts, room=width - _QUEUE)
    rows = [[label, *(counts[name][place] for name in shown)] for place, label in enumerate(labels)]
    lines = lay_out([Column(name="queue", share=1), *(columns[name] for name in shown)], rows, width=width)
    left_out = [name.replace("_", " ") for name in counts if name not in shown]
    if left_out:
        lines.append(Text(f"a wider terminal, or --json, shows {', '.join(left_out)}", style="dim"))
    return lines


def _fitting(columns: dict[str, Column], counts: dict[str, list[Text]], *, room: int) -> list[str]:
    """Return the counts for which there is room, in their own order; those that change fastest are left out last."""
    fitting = []
    for name in sorted(counts, key=_BY_USE.index):
        room -= least_width(columns[name], counts[name])
        if room < 0:
            break
        fitting.append(name)
    return [name for name in counts if name in fitting]


def render_rate(rate: float | None) -> Text:
    """Return an error rate: red, or dim if there were no errors."""
    return Text(share(rate), style="red" if rate else "dim")


def _count(queue: QueueStatistics, name: str) -> int:
    count: int = getattr(queue, name)
    return count


def _number(count: int) -> Text:
    return Text(f"{count:,}", style="" if count else "dim")


def render_state(state: State) -> Text:
    """Return a state in its colour."""
    return Text(state.value, style=_STYLES[state])


def _call(job: TaskStatus) -> str:
    return ", ".join([*map(_json, job.args), *(f"{name}={_json(value)}" for name, value in job.kwargs.items())])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
