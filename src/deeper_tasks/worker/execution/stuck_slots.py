"""The stuck slots: slots whose job runs on after its timeout. If they are too many, the worker stops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.queue_patterns import ServedQueues, is_pattern
from deeper_tasks.integrations.events import EventBus, SlotFreed, TaskIgnoresTimeout
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.clock import Clock
from deeper_tasks.worker.liveness.snapshot import place_in_handler
from deeper_tasks.worker.settings import WorkerSettings

_MOST_INTERRUPTIONS = 3
"""A coroutine's slot counts as lost after so many interruptions that did not end it."""


class StuckSlots:
    """
    Counts the slots that are lost to jobs which ignore their timeouts.

    A thread cannot be stopped, so its slot is lost until the thread ends by itself. `on_stuck` is
    called with the reason when half of all slots are lost, or all slots of one queue, or as many as
    `stuck_slots_limit` says, and when one job has run on for `stuck_after` after its timeout.
    """

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        running: Callable[[], Iterable[Attempt]],
        clock: Clock,
        bus: EventBus,
        on_stuck: Callable[[str], None],
    ) -> None:
        self._queues = settings.queues
        self._served = ServedQueues(settings.queues)
        self._limit = settings.stuck_slots_limit
        self._after = settings.stuck_after
        self._running = running
        self._clock = clock
        self._bus = bus
        self._on_stuck = on_stuck

    @property
    def lost(self) -> int:
        """How many slots are lost now."""
        return self._lost().total()

    def note_ignored(self, attempt: Attempt) -> None:
        """Note that an attempt was interrupted again, and has not ended so far."""
        attempt.ignored += 1
        job = attempt.job
        if attempt.ignored == 1:
            self._bus.emit(
                TaskIgnoresTimeout(
                    job_id=job.id,
                    task=job.task,
                    queue=job.queue,
                    attempt=job.attempt,
                    timeout=attempt.timeout,
                    place=place_in_handler(attempt),
                    lost=self.lost,
                    slots=self._slots,
                )
            )
        reason = self._why_stuck(attempt)
        if reason is not None:
            self._on_stuck(reason)

    def note_end(self, attempt: Attempt) -> None:
        """
        Note that an attempt which ignored its timeout does not run here any more.

        Its slot is not free if the worker has left a thread that runs on.
        """
        if attempt.thread is not None:
            return
        job = attempt.job
        self._bus.emit(
            SlotFreed(
                job_id=job.id,
                task=job.task,
                queue=job.queue,
                attempt=job.attempt,
                after=self._overdue(attempt),
                lost=self.lost,
                slots=self._slots,
            )
        )

    @property
    def _slots(self) -> int:
        return sum(self._queues.values())

    def _lost(self) -> Counter[str]:
        """Return how many slots are lost, by the entry of the worker's queues."""
        lost = (attempt.job.queue for attempt in self._running() if _is_lost(attempt))
        return Counter(self._served.entry_for(queue) or queue for queue in lost)

    def _overdue(self, attempt: Attempt) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - (attempt.overdue_since or 0.0))

    def _why_stuck(self, attempt: Attempt) -> str | None:
        overdue = self._overdue(attempt)
        if overdue >= self._after:
            return f"the job {attempt.job.id} has run on for {readable(overdue)} after its timeout"
        lost = self._lost()
        limit = math.ceil(self._slots / 2) if self._limit is None else min(self._limit, self._slots)
        if lost.total() >= limit:
            return f"{lost.total()} of its {self._slots} slots are lost"
        if self._limit is None:
            for queue, number in lost.items():
                if number >= self._queues.get(queue, math.inf):
                    return f"all slots of the queue{'s' if is_pattern(queue) else ''} {queue!r} are lost"
        return None


def _is_lost(attempt: Attempt) -> bool:
    return attempt.ignored >= (_MOST_INTERRUPTIONS if attempt.thread is None else 1)
