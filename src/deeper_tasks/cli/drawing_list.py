"""The drawing of a page of jobs: a line each, and of dead letters their errors below."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from deeper_tasks.cli.columns import Column, cut_end, lay_out
from deeper_tasks.cli.drawing import DAMAGED, draw_state
from deeper_tasks.cli.output import ago, first_line, safe
from deeper_tasks.domain.state import State
from deeper_tasks.manager import Page, TaskStatus

_MEDIUM, _WIDE = 100, 130
_INDENT = "    "


def has_room_for_ids(width: int | None) -> bool:
    """Return whether the ids of jobs are shown whole."""
    return width is None or width >= _WIDE


def draw_page(page: Page, ids: Sequence[str], *, width: int | None, is_dead: bool = False) -> list[Text]:
    """
    Return the lines of a page; `ids` are its jobs' ids as they are to be shown.

    A narrow terminal has no room for when something happened, nor for whole texts. `is_dead` gives errors
    lines of their own, which begin with when the job ended where there is no column for it. Without a `width`
    nothing is cut.
    """
    has_time = width is None or width >= _MEDIUM
    columns = [
        Column(name="id"),
        Column(name="state"),
        Column(name="task", share=5, keeps_end=True),
        Column(name="queue", share=3),
        Column(name="attempts", is_number=True),
        *([Column(name="when")] if has_time else []),
        *([] if is_dead else [Column(name="last error", share=5)]),
    ]
    rows = [
        _row(job, job_id, has_time=has_time, has_error=not is_dead)
        for job, job_id in zip(page.entries, ids, strict=True)
    ]
    head, *lines = lay_out(columns, rows, width=width)
    if not is_dead:
        return [head, *lines]
    errors = [_error(job, width, has_time=has_time) for job in page.entries]
    return [head, *(line for pair in zip(lines, errors, strict=True) for line in pair)]


def _row(job: TaskStatus, job_id: str, *, has_time: bool, has_error: bool) -> list[Text]:
    state = draw_state(job.status)
    if job.damage:
        state = Text.assemble(state, (" damaged", DAMAGED))
    return [
        Text(job_id),
        state,
        Text(safe(job.task)),
        Text(safe(job.queue)),
        Text(f"{job.attempts}/{job.max_attempts}"),
        *([Text(_when(job))] if has_time else []),
        *([Text(first_line(job.last_error or ""))] if has_error else []),
    ]


def _error(job: TaskStatus, width: int | None, *, has_time: bool) -> Text:
    error = first_line(job.last_error or "no error is stored")
    if not has_time and job.finished_at is not None:
        error = f"{ago(job.finished_at)}: {error}"
    return Text(_INDENT + (error if width is None else cut_end(error, max(width - len(_INDENT), 1))), style="red")


def _when(job: TaskStatus) -> str:
    said: tuple[str, datetime] = ("due", job.scheduled_at)
    if job.finished_at is not None:
        said = ("ended", job.finished_at)
    elif job.status is State.RUNNING and job.attempted_at is not None:
        said = ("started", job.attempted_at)
    return f"{said[0]} {ago(said[1])}"
