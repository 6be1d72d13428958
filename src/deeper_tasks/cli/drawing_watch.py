"""The drawing of the live screen: queues, workers and the latest dead letters, as many as the window holds."""

from __future__ import annotations

from rich.console import ConsoleDimensions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.drawing_queues import draw_workers, number, queue_state
from deeper_tasks.cli.output import ago, first_line, local_clock, safe
from deeper_tasks.cli.watch import DeadLetter, Look, failed_today
from deeper_tasks.domain.durations import readable
from deeper_tasks.manager import Overview

_NARROW = 90


def draw_look(look: Look, size: ConsoleDimensions, *, interval: float) -> RenderableType:
    """Return the whole screen, cut to the window."""
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
    queues = _queues(look, look.overview, most=max(1, room // 2), is_wide=size.width >= _NARROW)
    room -= queues.row_count + 2
    parts += [queues, Text()]
    if look.overview.workers and room > 1:
        workers = draw_workers(look.overview)
        room -= workers.row_count + 2
        parts += [workers, Text()]
    if look.dead_letters and room > 1:
        parts.append(_dead_letters(look.dead_letters[: room - 1]))
    return Group(*parts)


def _totals(look: Look, overview: Overview) -> Text:
    living = [worker for worker in overview.workers if worker.is_alive]
    busy, slots = sum(worker.busy for worker in living), sum(worker.slots for worker in living)
    rate = sum(each.completed for each in look.rates.values())
    text = (
        f"pending {sum(queue.pending for queue in overview.queues):,}   "
        f"running {sum(queue.running for queue in overview.queues):,}   "
        f"{failed_today(overview)}   "
        f"{rate:,.1f} jobs/s   workers {len(living)}, {busy} of {slots} slots busy"
    )
    return Text(text, no_wrap=True, overflow="ellipsis")


def _queues(look: Look, overview: Overview, *, most: int, is_wide: bool) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("queue", no_wrap=True, overflow="ellipsis")
    for name in ("pending", "running", "later", "failed today") if is_wide else ("pending", "running"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("per second", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True, overflow="ellipsis")
    # The busiest first: they are what a small window must not leave out.
    busiest = sorted(overview.queues, key=lambda queue: (-queue.pending - queue.running, queue.name))[:most]
    for queue in sorted(busiest, key=lambda queue: queue.name):
        rate = look.rates.get(queue.name)
        counts = [number(queue.pending), number(queue.running)]
        if is_wide:
            counts += [number(queue.later), number(queue.failed_today, style="red")]
        speed = Text("" if rate is None else f"{rate.completed:,.1f}")
        table.add_row(Text(safe(queue.name)), *counts, speed, queue_state(queue))
    return table


def _dead_letters(dead: tuple[DeadLetter, ...]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("latest dead letters", no_wrap=True)
    table.add_column("task", no_wrap=True, overflow="ellipsis")
    table.add_column("error", no_wrap=True, overflow="ellipsis")
    for job in dead:
        when = Text("" if job.finished_at is None else ago(job.finished_at), style="red")
        table.add_row(when, Text(safe(job.task)), Text(first_line(job.last_error or "")))
    return table
