"""The drawings of queues and workers, as tables for people."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.drawing import DAMAGED
from deeper_tasks.cli.output import ago, safe
from deeper_tasks.domain.damage import described
from deeper_tasks.manager import Overview, QueueOverview, WorkerOverview

_UNSERVED = "no worker serves it"


def draw_queues(overview: Overview) -> Table:
    """Return a table of the queues; what needs a look is in colour."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("queue", overflow="fold")
    for name in ("pending", "running", "later", "failed\ntoday", "slots"):
        table.add_column(name, justify="right", no_wrap=True)
    # A long name takes more lines, and not from all other queues.
    table.add_column("state", overflow="fold", min_width=len(_UNSERVED))
    for queue in overview.queues:
        table.add_row(
            Text(safe(queue.name)),
            number(queue.pending),
            number(queue.running),
            number(queue.later),
            number(queue.failed_today, style="red"),
            number(queue.slots),
            queue_state(queue),
        )
    return table


def queue_state(queue: QueueOverview) -> Text:
    """Return what an operator should know: damaged, paused since when, or served by no worker."""
    if queue.damage:
        return Text(safe(f"damaged: {described(queue.damage)}"), style=DAMAGED)
    if queue.paused_at is not None:
        return Text(f"paused {ago(queue.paused_at)}", style="yellow")
    if not queue.workers:
        has_work = queue.pending or queue.later
        return Text(_UNSERVED, style="bold red" if has_work else "dim")
    return Text(f"{queue.workers} worker{'' if queue.workers == 1 else 's'}", style="green")


def draw_workers(overview: Overview, *, most: int) -> Table:
    """Return a table of the workers, those that live first, in `most` rows and the head."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("worker", overflow="fold")
    table.add_column("busy", justify="right")
    table.add_column("slots", overflow="fold")
    table.add_column("last beat", no_wrap=True)
    workers = sorted(overview.workers, key=lambda each: (not each.is_alive, each.id))
    shown = len(workers) if len(workers) <= most else max(1, most - 1)
    for worker in workers[:shown]:
        slots = ", ".join(f"{safe(name)}:{count}" for name, count in worker.queues.items())
        busy = Text(f"{worker.busy}/{worker.slots}")
        if worker.damage:
            slots = f"damaged: {safe(described(worker.damage))}"
        table.add_row(Text(safe(worker.id)), busy, Text(slots, style=DAMAGED if worker.damage else ""), _beat(worker))
    if shown < len(workers):
        rest = workers[shown:]
        total = f"{sum(worker.busy for worker in rest)}/{sum(worker.slots for worker in rest)}"
        table.add_row(f"{len(rest)} more", total, "", "", style="dim")
    return table


def _beat(worker: WorkerOverview) -> Text:
    text = ago(worker.beat_at)
    return Text(text, style="green") if worker.is_alive else Text(f"{text}: silent", style="bold red")


def number(count: int, *, style: str = "") -> Text:
    """Return a count, in the background when it is none."""
    return Text(f"{count:,}", style=style if count else "dim")
