"""Conformance: what the store tells of jobs that a rescue, an expiry or a cancel moved."""

from __future__ import annotations

from typing import Any

import pytest

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import End, MovedJob, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    HOUR,
    MINUTE,
    NOW,
    join,
    node_record,
    only,
    put,
    put_running,
    settle,
    take,
)

_JOB: dict[str, Any] = {"task": "shop.pay", "queue": "till"}


class MovedJobsConformance:
    """The contract of `MovedJob`: it holds enough to report a job as its worker would have."""

    @pytest.mark.parametrize(("max_attempts", "state"), [(1, State.DISCARDED), (2, State.PENDING)])
    async def test_a_rescue_tells_of_each_job_with_the_attempt_that_was_lost(
        self, backend: Backend, max_attempts: int, state: State
    ) -> None:
        node = await join(backend)
        job = await put_running(backend, node, max_attempts=max_attempts, **_JOB)
        assert await _rescued(backend, node) == (
            MovedJob(id=job.id, state=state, attempt=1, error=worker_lost(node), **_JOB),
        )

    async def test_a_rescue_tells_why_a_job_is_cancelled(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, **_JOB)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        assert await _rescued(backend, node) == (
            MovedJob(
                id=job.id,
                state=State.CANCELLED,
                attempt=1,
                error=worker_lost(node),
                cancel_reason="enough",
                **_JOB,
            ),
        )

    async def test_an_expiry_tells_of_a_job_that_was_never_tried(self, backend: Backend) -> None:
        job_id = await put(backend, expires_in=MINUTE, **_JOB)
        assert await backend.expire(now=NOW + HOUR) == [
            MovedJob(id=job_id, state=State.FAILED, attempt=0, error=EXPIRED, **_JOB)
        ]

    async def test_an_expiry_tells_of_the_last_attempt(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), expires_in=MINUTE, **_JOB)
        await settle(backend, [job], End.RETRY, error=BOOM)
        assert await backend.expire(now=NOW + HOUR) == [
            MovedJob(id=job.id, state=State.FAILED, attempt=1, error=EXPIRED, **_JOB)
        ]

    async def test_a_cancel_tells_of_jobs_that_wait_and_of_those_that_run(self, backend: Backend) -> None:
        node = await join(backend)
        running = await put_running(backend, node, **_JOB)
        failed = await put_running(backend, node, **_JOB)
        await settle(backend, [failed], End.RETRY, error=BOOM, delay=MINUTE)
        waiting = await put(backend, **_JOB)
        moved = await backend.cancel(only(running.id, failed.id, waiting), reason="enough", now=NOW)
        assert sorted(moved, key=lambda job: job.id) == [
            MovedJob(id=running.id, state=State.RUNNING, attempt=1, cancel_reason="enough", **_JOB),
            MovedJob(id=failed.id, state=State.CANCELLED, attempt=1, cancel_reason="enough", **_JOB),
            MovedJob(id=waiting, state=State.CANCELLED, attempt=0, cancel_reason="enough", **_JOB),
        ]

    async def test_a_cancel_tells_the_first_reason_of_a_job_that_was_asked_before(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        for reason in ("enough", "again"):
            [moved] = await backend.cancel(only(job.id), reason=reason, now=NOW)
            assert moved.cancel_reason == "enough"

    async def test_a_job_that_was_retried_is_no_longer_answered_as_cancelled(self, backend: Backend) -> None:
        job_id = await put(backend)
        await backend.cancel(only(job_id), reason="enough", now=NOW)
        await backend.retry(only(job_id), now=NOW)
        node = await join(backend)
        await take(backend, node)
        [moved] = await _rescued(backend, node)
        assert (moved.state, moved.cancel_reason) == (State.PENDING, None)


async def _rescued(backend: Backend, node: NodeId) -> tuple[MovedJob, ...]:
    beat = (await node_record(backend, node)).beat
    return (await backend.rescue(node, beat=beat, now=NOW)).jobs
