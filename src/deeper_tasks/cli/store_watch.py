"""The store watch: looks at the store again and again, and computes how many jobs end per second."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec import Struct

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.domain.state import DEAD_LETTER
from deeper_tasks.errors import BackendError, UnsupportedError
from deeper_tasks.manager import Overview, TaskStatus

_DEAD_SHOWN = 5


class Rate(Struct, frozen=True, kw_only=True):
    """The number of jobs of a queue that ended per second between two looks at the store."""

    completed: float
    failed: float


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One of the latest dead letters, with its last error."""

    id: str
    task: str
    queue: str
    finished_at: datetime | None
    last_error: str | None


class Look(Struct, frozen=True, kw_only=True):
    """
    The state of the store at one moment. `at` is the time by this machine's clock.

    `overview` is None if the store did not answer; `error` then says why. `rates` is empty at the first look,
    because a rate needs two.
    """

    at: datetime
    overview: Overview | None = None
    rates: dict[str, Rate] = {}
    dead_letters: tuple[DeadLetter, ...] = ()
    error: str | None = None


class Watcher:
    """Takes looks at the store. A store that does not answer, or does not exist yet, is tried again at each look."""

    def __init__(self, manager: BackgroundTaskManager) -> None:
        self._manager = manager
        self._last: tuple[float, Overview] | None = None

    def look(self) -> Look:
        """Return the present state of the store."""
        at = datetime.now(UTC)
        try:
            self._manager.sync.open(create=False)
            overview = self._manager.sync.get_overview()
            dead = self._dead_letters(overview)
        except UnsupportedError:
            # Tasks are disabled, and trying again would not change that.
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
    """Return, for each queue, how many jobs ended per second. The counts of a day start at 0 at midnight (UTC)."""
    known = {queue.name: queue for queue in before.queues}
    rates = {}
    for queue in after.queues:
        old = known.get(queue.name)
        completed = _grown(0 if old is None else old.completed_today, queue.completed_today)
        failed = _grown(0 if old is None else old.failed_today, queue.failed_today)
        rates[queue.name] = Rate(completed=completed / seconds, failed=failed / seconds)
    return rates


def _grown(before: int, after: int) -> int:
    return after - before if after >= before else after


def _dead_letter(job: TaskStatus) -> DeadLetter:
    return DeadLetter(id=job.id, task=job.task, queue=job.queue, finished_at=job.finished_at, last_error=job.last_error)
