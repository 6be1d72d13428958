"""The instant store: has jobs without end and answers at once, so that what a worker itself costs can be seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.engine_tasks import noop
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import MAX_BATCH, Claim
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import Settled, Settlement
from deeper_tasks.domain.state import State


class InstantStore(MemoryBackend):
    """A store of `jobs` jobs. `settled` counts those that are done, `used` the CPU seconds spent in here."""

    def __init__(self, jobs: int) -> None:
        super().__init__()
        self.settled = 0
        self.used = 0.0
        self._total = jobs
        self._claimed = 0

    async def claim(
        self,
        queue: str | QueuePattern,
        *,
        limit: int,
        slots: int,
        node: NodeId,  # noqa: ARG002 - the protocol's
        token: ClaimToken,
        after: str = "",  # noqa: ARG002 - the protocol's
        quarantined: int = MAX_BATCH,  # noqa: ARG002 - the protocol's
        now: datetime | None = None,
    ) -> Claim:
        """Give the next jobs."""
        started = time.thread_time()
        count = min(limit, MAX_BATCH, self._total - self._claimed)
        at = now or datetime.now(UTC)
        name = queue if isinstance(queue, str) else queue.prefix
        jobs = tuple(_job(self._claimed + place, name, token, at, has_started=place < slots) for place in range(count))
        self._claimed += count
        self.used += time.thread_time() - started
        return Claim(jobs=jobs)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:  # noqa: ARG002 - the protocol's
        """Accept everything."""
        started = time.thread_time()
        settled = [Settled(id=each.id, state=State.COMPLETED) for each in settlements]
        self.settled += len(settled)
        self.used += time.thread_time() - started
        return settled


def _job(number: int, queue: str, token: ClaimToken, at: datetime, *, has_started: bool) -> ClaimedJob:
    return ClaimedJob(
        id=JobId(f"{number:036d}"),
        token=token,
        task=noop.name,
        arguments='[[42,"hello"],{}]',
        queue=queue,
        priority=0,
        attempt=1,
        max_attempts=5,
        inserted_at=at,
        scheduled_at=at,
        claimed_at=at,
        expires_at=None,
        has_started=has_started,
    )
