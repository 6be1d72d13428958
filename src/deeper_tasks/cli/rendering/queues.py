"""Rendering of queues and workers as tables."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deeper_tasks.cli.rendering.columns import Column, least_width
from deeper_tasks.cli.rendering.formats import ago, safe
from deeper_tasks.cli.rendering.jobs import DAMAGED
from deeper_tasks.domain.damage import described
from deeper_tasks.manager import Overview, QueueOverview, WorkerOverview

_UNSERVED = "no worker serves it"
_NAME, _GAP = 18, 2
"""The columns reserved for the name of a queue before numbers get room, and the columns between two columns."""
_BY_USE = ("pending", "failed\ntoday", "running", "later", "slots")


def render_queues(overview: Overview, *, width: int | None = None) -> RenderableType:
    """
    Return a table of the queues; failures, pauses and queues without a worker are coloured.

    If the terminal has no room for all numbers, the last line names those left out; names and states always stay.
    """
    names = [Text(safe(queue.name)) for queue in overview.queues]
    states = [queue_state(queue) for queue in overview.queues]
    numbers = {
        "pending": [number(queue.pending) for queue in overview.queues],
        "running": [number(queue.running) for queue in overview.queues],
        "later": [number(queue.later) for queue in overview.queues],
        "failed\ntoday": [number(queue.failed_today, style="red") for queue in overview.queues],
        "slots": [number(queue.slots) for queue in overview.queues],
    }
    least = min(_NAME, max((name.cell_len for name in names), default=0)) + _GAP + len(_UNSERVED)
    shown = numbers if width is None else _fitting(numbers, room=width - least)
    table = Table(box=None, header_style="dim", padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column("queue", overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    # Without a least width, one long name would fold the states of all queues.
    table.add_column("state", overflow="fold", min_width=len(_UNSERVED))
    for row in zip(names, *shown.values(), states, strict=True):
        table.add_row(*row)
    left_out = [name.replace("\n", " ") for name in numbers if name not in shown]
    if not left_out:
        return table
    return Group(table, Text(f"a wider terminal, or --json, shows {', '.join(left_out)}", style="dim"))


def _fitting(numbers: dict[str, list[Text]], *, room: int) -> dict[str, list[Text]]:
    """Return the numbers for which there is room, in their own order; those that change fastest are left out last."""
    fitting = set()
    for name in _BY_USE:
        room -= least_width(Column(name=name), numbers[name])
        if room < 0:
            break
        fitting.add(name)
    return {name: texts for name, texts in numbers.items() if name in fitting}


def queue_state(queue: QueueOverview) -> Text:
    """Return the state of a queue: damaged, paused since some time, without a worker, or its number of workers."""
    if queue.damage:
        return Text(safe(f"damaged: {described(queue.damage)}"), style=DAMAGED)
    if queue.paused_at is not None:
        return Text(f"paused {ago(queue.paused_at)}", style="yellow")
    if not queue.workers:
        has_work = queue.pending or queue.later
        return Text(_UNSERVED, style="bold red" if has_work else "dim")
    return Text(f"{queue.workers} worker{'' if queue.workers == 1 else 's'}", style="green")


def render_workers(overview: Overview, *, most: int) -> Table:
    """Return a table of the workers, living ones first, of at most `most` rows below the head."""
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
    """Return a count, dim if it is 0."""
    return Text(f"{count:,}", style=style if count else "dim")
