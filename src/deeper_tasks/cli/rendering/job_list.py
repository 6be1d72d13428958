"""Rendering of a page of jobs: one line for each, and below each dead letter its error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from deeper_tasks.cli.rendering.columns import Column, cut_end, lay_out
from deeper_tasks.cli.rendering.formats import ago, first_line, safe
from deeper_tasks.cli.rendering.jobs import DAMAGED, render_state
from deeper_tasks.domain.state import State
from deeper_tasks.manager import Page, TaskStatus

_TINY, _SMALL, _MEDIUM, _WIDE = 50, 65, 100, 130
_COLUMNS = (
    (Column(name="id"), 0),
    (Column(name="state"), 0),
    (Column(name="task", share=5, keeps_end=True), 0),
    (Column(name="queue", share=3), _TINY),
    (Column(name="attempts", is_number=True), _SMALL),
    (Column(name="when"), _MEDIUM),
    (Column(name="last error", share=5), _SMALL),
)
"""The columns, each with the least width of a terminal that shows it."""
_INDENT = "    "


def has_room_for_ids(width: int | None) -> bool:
    """Whether the ids of jobs are shown in full."""
    return width is None or width >= _WIDE


def render_page(page: Page, ids: Sequence[str], *, width: int | None, is_dead: bool = False) -> list[Text]:
    """
    Return the lines of a page; `ids` are the ids of its jobs in the form to show.

    On a narrow terminal the column of times is left out, and texts are cut; without a `width`, no text is cut. With
    `is_dead` each error has a line of its own, which begins with the time of the job's end if no column shows it.
    """
    columns = [column for column, least in _COLUMNS if width is None or width >= least]
    if is_dead:
        columns = [column for column in columns if column.name != "last error"]
    rows = [_row(job, job_id, columns) for job, job_id in zip(page.entries, ids, strict=True)]
    head, *lines = lay_out(columns, rows, width=width)
    if not is_dead:
        return [head, *lines]
    has_time = any(column.name == "when" for column in columns)
    errors = [_error(job, width, has_time=has_time) for job in page.entries]
    return [head, *(line for pair in zip(lines, errors, strict=True) for line in pair)]


def _row(job: TaskStatus, job_id: str, columns: Sequence[Column]) -> list[Text]:
    state = render_state(job.status)
    if job.damage:
        state = Text.assemble(state, (" damaged", DAMAGED))
    texts = {
        "id": Text(job_id),
        "state": state,
        "task": Text(safe(job.task)),
        "queue": Text(safe(job.queue)),
        "attempts": Text(f"{job.attempts}/{job.max_attempts}"),
        "when": Text(_when(job)),
        "last error": Text(first_line(job.last_error or "")),
    }
    return [texts[column.name] for column in columns]


def _error(job: TaskStatus, width: int | None, *, has_time: bool) -> Text:
    error = first_line(job.last_error or "no error is stored")
    if not has_time and job.finished_at is not None:
        error = f"{ago(job.finished_at)}: {error}"
    return Text(_INDENT + (error if width is None else cut_end(error, max(width - len(_INDENT), 1))), style="red")


def _when(job: TaskStatus) -> str:
    event: tuple[str, datetime] = ("due", job.scheduled_at)
    if job.finished_at is not None:
        event = ("ended", job.finished_at)
    elif job.status is State.RUNNING and job.attempted_at is not None:
        event = ("started", job.attempted_at)
    return f"{event[0]} {ago(event[1])}"
