"""The watch: `deeper stats --watch` shows the store again and again, on a screen, in lines or as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import click

from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.formats import failed_today, local_clock
from deeper_tasks.cli.rendering.output import write_json
from deeper_tasks.cli.store_watch import Look, Watcher
from deeper_tasks.cli.target import Target


class Screen(Protocol):
    """A screen that shows looks at the store until the user ends it."""

    def run(self, take_look: Callable[[], Look]) -> None:
        """Show the result of `take_look` again and again."""


def watch(target: Target, *, interval: float, screen: Screen | None) -> ExitCode:
    """
    Show the store every `interval` seconds, until Ctrl-C, or `q` on a terminal.

    Without a `screen`, print one line for each look; with --json, a line of JSON.
    """
    with target.closing() as manager:
        watcher = Watcher(manager)
        if target.as_json:
            for look in _looks(watcher, interval):
                write_json(look)
        elif screen is not None:
            screen.run(watcher.look)
        else:
            for look in _looks(watcher, interval):
                click.echo(describe(look))
    return ExitCode.DONE


def describe(look: Look) -> str:
    """Return a look as a line of text."""
    clock = local_clock(look.at)
    if look.overview is None:
        return f"{clock}  the store does not answer: {look.error}"
    queues, living = look.overview.queues, [worker for worker in look.overview.workers if worker.is_alive]
    busy, slots = sum(worker.busy for worker in living), sum(worker.slots for worker in living)
    parts = [
        f"pending {sum(queue.pending for queue in queues):,}",
        f"running {sum(queue.running for queue in queues):,}",
        failed_today(look.overview),
        f"{sum(rate.completed for rate in look.rates.values()):,.1f}/s",
        f"workers {len(living)} ({busy}/{slots} busy)",
    ]
    return "  ".join([clock, *parts])


def _looks(watcher: Watcher, interval: float) -> Iterator[Look]:
    due = time.monotonic()
    while True:
        yield watcher.look()
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
