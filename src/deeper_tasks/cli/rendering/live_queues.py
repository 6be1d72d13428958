"""Rendering of the live screen: as many queues, workers and latest dead letters as the window holds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import ConsoleDimensions, Group, RenderableType
from rich.text import Text

from deeper_tasks.cli.rendering.columns import Column, lay_out
from deeper_tasks.cli.rendering.formats import ago, failed_today, first_line, local_clock, safe
from deeper_tasks.cli.rendering.queues import number, queue_state, render_workers
from deeper_tasks.cli.store_watch import DeadLetter, Look
from deeper_tasks.domain.durations import readable
from deeper_tasks.manager import Overview, QueueOverview

_WIDE, _MEDIUM = 90, 65
_COUNTS = {"pending": 0, "running": _MEDIUM, "later": _WIDE, "failed today": _WIDE, "per second": _MEDIUM}
"""The numbers of a queue, each with the least width of a terminal that shows it."""


def render_look(look: Look, size: ConsoleDimensions, *, interval: float) -> RenderableType:
    """Return the whole screen, cut to the size of the window."""
    head = Text.assemble(
        ("deeper", "bold"),
        (f"  {local_clock(look.at)}, every {readable(interval)}; q or Ctrl-C ends", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
    if look.overview is None:
        return Group(head, Text(), Text(f"the store does not answer: {safe(look.error)}", style="bold red"))
    parts: list[RenderableType] = [head, _totals(look, look.overview), Text()]
    room = size.height - len(parts) - 1
    queues = _queues(look, look.overview, most=max(1, room // 2), width=size.width)
    room -= len(queues) + 1
    parts += [*queues, Text()]
    if look.overview.workers and room > 1:
        # Leave at least half of the remaining lines to the dead letters, if there are any.
        workers = render_workers(look.overview, most=(room - 1) // 2 if look.dead_letters else room - 1)
        room -= workers.row_count + 2
        parts += [workers, Text()]
    if look.dead_letters and room > 1:
        parts += _dead_letters(look.dead_letters[: room - 1], width=size.width)
    return Group(*parts)


def _totals(look: Look, overview: Overview) -> Text:
    living = [worker for worker in overview.workers if worker.is_alive]
    busy, slots = sum(worker.busy for worker in living), sum(worker.slots for worker in living)
    rate = sum(each.completed for each in look.rates.values())
    text = (
        f"pending {sum(queue.pending for queue in overview.queues):,}   "
        f"running {sum(queue.running for queue in overview.queues):,}   "
        f"{failed_today(overview)}   "
        f"{rate:,.1f} jobs/s   workers {len(living)}, {busy}/{slots} busy"
    )
    return Text(text, no_wrap=True, overflow="ellipsis")


def _queues(look: Look, overview: Overview, *, most: int, width: int) -> list[Text]:
    """Return the lines of the queues, the busiest first: a small window leaves out those at the end."""
    names = [name for name, least in _COUNTS.items() if width >= least]
    columns = [
        Column(name="queue", share=3),
        *(Column(name=name, is_number=True) for name in names),
        Column(name="state", share=2),
    ]
    busiest = sorted(
        overview.queues, key=lambda queue: (-queue.pending - queue.running, -_speed(look, queue), queue.name)
    )
    shown = len(busiest) if len(busiest) <= most else max(1, most - 1)
    rows = [_row(look, queue, names) for queue in busiest[:shown]]
    if shown < len(busiest):
        rows.append(_rest(look, busiest[shown:], names))
    return lay_out(columns, rows, width=width)


def _row(look: Look, queue: QueueOverview, names: Sequence[str]) -> list[Text]:
    texts = {
        "pending": number(queue.pending),
        "running": number(queue.running),
        "later": number(queue.later),
        "failed today": number(queue.failed_today, style="red"),
        "per second": Text(f"{_speed(look, queue):,.1f}" if queue.name in look.rates else ""),
    }
    return [Text(safe(queue.name)), *(texts[name] for name in names), queue_state(queue)]


def _rest(look: Look, queues: Sequence[QueueOverview], names: Sequence[str]) -> list[Text]:
    """Return the row that sums up the queues for which there is no room."""
    sums = {
        "pending": f"{sum(queue.pending for queue in queues):,}",
        "running": f"{sum(queue.running for queue in queues):,}",
        "later": f"{sum(queue.later for queue in queues):,}",
        "failed today": f"{sum(queue.failed_today for queue in queues):,}",
        "per second": f"{sum(_speed(look, queue) for queue in queues):,.1f}" if look.rates else "",
    }
    texts = [f"{len(queues)} more", *(sums[name] for name in names), ""]
    return [Text(text, style="dim") for text in texts]


def _speed(look: Look, queue: QueueOverview) -> float:
    rate = look.rates.get(queue.name)
    return 0.0 if rate is None else rate.completed


def _dead_letters(dead: tuple[DeadLetter, ...], *, width: int) -> list[Text]:
    columns = [
        Column(name="latest dead letters"),
        Column(name="task", share=1, keeps_end=True),
        Column(name="error", share=2),
    ]
    rows = [
        [
            Text("" if job.finished_at is None else ago(job.finished_at), style="red"),
            Text(safe(job.task)),
            Text(first_line(job.last_error or "")),
        ]
        for job in dead
    ]
    return lay_out(columns, rows, width=width)
