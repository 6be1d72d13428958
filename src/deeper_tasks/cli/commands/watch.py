"""The watch: `deeper stats --watch` looks at the store again and again, and shows what changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import click
from msgspec import Struct

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli.program import ExitCode
from deeper_tasks.cli.rendering.output import local_clock, share, write_json
from deeper_tasks.cli.target import Target
from deeper_tasks.domain.state import DEAD_LETTER
from deeper_tasks.errors import BackendError, UnsupportedError
from deeper_tasks.manager import Overview, TaskStatus

_DEAD_SHOWN = 5


class Rate(Struct, frozen=True, kw_only=True):
    """How many jobs of a queue ended per second between two looks."""

    completed: float
    failed: float


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A job that died lately, and why."""

    id: str
    task: str
    queue: str
    finished_at: datetime | None
    last_error: str | None


class Look(Struct, frozen=True, kw_only=True):
    """
    One look at the store, `at` this machine's time. Without `overview` the store did not answer: `error` says why.

    `rates` is empty at the first look: a rate takes two.
    """

    at: datetime
    overview: Overview | None = None
    rates: dict[str, Rate] = {}
    dead_letters: tuple[DeadLetter, ...] = ()
    error: str | None = None


class Watcher:
    """Looks at the store. One that does not answer, or is not there yet, is told and asked again."""

    def __init__(self, manager: BackgroundTaskManager) -> None:
        self._manager = manager
        self._last: tuple[float, Overview] | None = None

    def look(self) -> Look:
        """Return what there is to see now."""
        at = datetime.now(UTC)
        try:
            self._manager.sync.open(create=False)
            overview = self._manager.sync.get_overview()
            dead = self._dead_letters(overview)
        except UnsupportedError:
            # Tasks are disabled: to ask again would not help.
            raise
        except BackendError as error:
            self._last = None
            return Look(at=at, error=str(error))
        moment, before = time.monotonic(), self._last
        self._last = (moment, overview)
        rates = {} if before is None else compute_rates(before[1], overview, seconds=moment - before[0])
        return Look(at=at, overview=overview, rates=rates, dead_letters=dead)

    def _dead_letters(self, overview: Overview) -> tuple[DeadLetter, ...]:
        if not any(queue.dead for queue in overview.queues):
            return ()
        page = self._manager.sync.list_tasks(status=DEAD_LETTER, sort_by="finished_at", per_page=_DEAD_SHOWN)
        return tuple(map(_dead_letter, page.entries))


def compute_rates(before: Overview, after: Overview, *, seconds: float) -> dict[str, Rate]:
    """Return what ended per second, by queue. At midnight (UTC) the counts of the day begin anew."""
    known = {queue.name: queue for queue in before.queues}
    rates = {}
    for queue in after.queues:
        old = known.get(queue.name)
        completed = _grown(0 if old is None else old.completed_today, queue.completed_today)
        failed = _grown(0 if old is None else old.failed_today, queue.failed_today)
        rates[queue.name] = Rate(completed=completed / seconds, failed=failed / seconds)
    return rates


class Screen(Protocol):
    """What shows looks on a terminal until it is ended."""

    def run(self, take_look: Callable[[], Look]) -> None:
        """Show what `take_look` sees, again and again."""


def watch(target: Target, *, interval: float, screen: Screen | None) -> ExitCode:
    """
    Show the store every `interval` seconds until Ctrl-C, or `q` on a terminal.

    Without a `screen` that is a line each time, with --json one of JSON.
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
    """Return a look as a line."""
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


def failed_today(overview: Overview) -> str:
    """Return how many jobs failed today, and the error rates of the day and of the last hour where there are any."""
    text = f"failed today {sum(queue.failed_today for queue in overview.queues):,}"
    if overview.error_rate_today is None:
        return text
    return f"{text} ({share(overview.error_rate_today)}, last hour {share(overview.error_rate_last_hour)})"


def _looks(watcher: Watcher, interval: float) -> Iterator[Look]:
    due = time.monotonic()
    while True:
        yield watcher.look()
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _grown(before: int, after: int) -> int:
    return after - before if after >= before else after


def _dead_letter(job: TaskStatus) -> DeadLetter:
    return DeadLetter(id=job.id, task=job.task, queue=job.queue, finished_at=job.finished_at, last_error=job.last_error)
