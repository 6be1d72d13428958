"""Conformance: claiming jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deeper_tasks.backends.protocol import Backend, Claim, JobFilter, QueueSettings
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import JobOptions
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.errors import NodeLostError
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    HOUR,
    MINUTE,
    NOW,
    QUEUE,
    SECOND,
    join,
    look,
    new_token,
    put,
    put_many,
    put_running,
    settle,
    state_of,
    take,
)


class ClaimConformance:
    """The contract of `claim`."""

    async def test_a_claim_takes_the_first_by_priority_then_due_time_then_id(self, backend: Backend) -> None:
        node = await join(backend)
        low = await put(backend, priority=5)
        normal = await put_many(backend, 3)
        later = await put(backend, now=NOW + SECOND)
        due = await put(backend, delay=-SECOND + MINUTE)
        high = await put(backend, priority=-100, now=NOW + SECOND)
        lowest = await put(backend, priority=100)
        await backend.promote(now=NOW + MINUTE)
        jobs = await take(backend, node, limit=100, now=NOW + MINUTE)
        assert [job.id for job in jobs] == [high, *normal, later, due, low, lowest]

    async def test_a_claim_takes_no_more_than_its_limit_and_goes_on_where_it_stopped(self, backend: Backend) -> None:
        node = await join(backend)
        ids = await put_many(backend, 5)
        first = await take(backend, node, limit=2)
        rest = await take(backend, node, limit=10)
        assert [job.id for job in first] == ids[:2]
        assert [job.id for job in rest] == ids[2:]
        assert await take(backend, node, limit=10) == ()

    async def test_a_claimed_job_carries_all_that_its_worker_needs(self, backend: Backend) -> None:
        node, token = await join(backend), new_token()
        options = JobOptions(retry_delay=SECOND, timeout=timedelta(milliseconds=1500), tags=("a",), meta={"k": [1]})
        due = NOW + timedelta(microseconds=1)
        job_id = await put(
            backend,
            due=due,
            task="shop.größe",
            arguments='["ü", 1.0]',
            queue="q",
            priority=3,
            max_attempts=7,
            expires_in=HOUR,
            options=options,
        )
        await backend.promote(now=NOW + SECOND)
        at = NOW + timedelta(seconds=1, microseconds=3)
        [job] = await take(backend, node, queue="q", token=token, now=at)
        assert (job.id, job.token) == (job_id, token)
        assert (job.task, job.arguments, job.queue, job.priority) == ("shop.größe", '["ü", 1.0]', "q", 3)
        assert (job.attempt, job.max_attempts) == (1, 7)
        assert (job.inserted_at, job.scheduled_at, job.claimed_at) == (NOW, due, at)
        assert job.expires_at == due + HOUR
        assert job.options == options

    async def test_a_claimed_job_without_options_has_the_defaults(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        assert (job.options or JobOptions()) == JobOptions()
        assert job.expires_at is None

    async def test_a_claimed_job_is_running_at_its_node(self, backend: Backend) -> None:
        node = await join(backend)
        job = await look(backend, (await put_running(backend, node)).id)
        assert (job.state, job.node, job.attempt, job.attempted_at) == (State.RUNNING, node, 1, NOW)

    async def test_a_claim_takes_from_its_own_queue_only(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend, queue="one")
        two = await put(backend, queue="two")
        assert [job.id for job in await take(backend, node, queue="two", limit=10)] == [two]
        assert await take(backend, node, queue="three", limit=10) == ()

    async def test_a_claim_that_finds_nothing_says_so_at_once(self, backend: Backend) -> None:
        node = await join(backend)
        claim = await backend.claim(QUEUE, limit=5, slots=5, node=node, token=new_token(), now=NOW)
        assert claim == Claim(jobs=())

    async def test_a_scheduled_job_is_not_claimed_before_it_was_promoted(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend, delay=MINUTE)
        assert await take(backend, node, now=NOW + SECOND) == ()

    async def test_the_same_token_again_gives_the_same_jobs(self, backend: Backend) -> None:
        node, token = await join(backend), new_token()
        await put_many(backend, 3, options=JobOptions(tags=("x",)))
        await put(backend, priority=-1)
        first = await take(backend, node, limit=3, slots=1, token=token)
        await put(backend, priority=-5)
        assert await take(backend, node, limit=3, slots=1, token=token) == first
        assert len(await take(backend, node, limit=10)) == 2

    async def test_the_same_token_again_gives_the_same_jobs_in_a_queue_paused_since(self, backend: Backend) -> None:
        node, token = await join(backend), new_token()
        await put(backend)
        first = await take(backend, node, token=token)
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        assert await take(backend, node, token=token) == first

    async def test_the_same_token_again_does_not_count_another_attempt(self, backend: Backend) -> None:
        node, token = await join(backend), new_token()
        job_id = await put(backend)
        await take(backend, node, token=token)
        await take(backend, node, token=token)
        assert (await look(backend, job_id)).attempt == 1

    async def test_an_expired_job_is_not_claimed_and_hides_no_other(self, backend: Backend) -> None:
        node = await join(backend)
        expired = await put_many(backend, 600, expires_in=MINUTE)
        good = [*await put_many(backend, 2), *await put_many(backend, 2, expires_in=2 * HOUR)]
        jobs = await take(backend, node, limit=10, now=NOW + HOUR)
        assert [job.id for job in jobs] == good
        assert await state_of(backend, expired[0]) is State.PENDING

    async def test_a_node_that_never_registered_may_not_claim(self, backend: Backend) -> None:
        job_id = await put(backend)
        with pytest.raises(NodeLostError):
            await take(backend, NodeId("never registered"))
        assert await state_of(backend, job_id) is State.PENDING

    async def test_a_claim_takes_no_more_than_a_batch(self, backend: Backend) -> None:
        node = await join(backend)
        ids = await put_many(backend, 1200)
        batches = [await take(backend, node, limit=2000) for _ in range(4)]
        assert [len(jobs) for jobs in batches] == [
            backend.capabilities.max_batch,
            backend.capabilities.max_batch,
            200,
            0,
        ]
        assert [job.id for jobs in batches for job in jobs] == ids

    async def test_each_claim_counts_an_attempt(self, backend: Backend) -> None:
        node = await join(backend)
        job_id = await put(backend)
        attempts = []
        for _ in range(3):
            [job] = await take(backend, node)
            attempts.append(job.attempt)
            await settle(backend, [job], End.RETRY, error=BOOM)
            await backend.promote(now=NOW)
        assert attempts == [1, 2, 3]
        assert (await look(backend, job_id)).attempt == 3

    async def test_a_job_keeps_the_time_it_was_enqueued_to_the_microsecond(self, backend: Backend) -> None:
        # Keys that others tell a job's requests by are derived from it.
        enqueued = NOW + timedelta(microseconds=123_457)
        node = await join(backend)
        first = await put_running(backend, node, now=enqueued)
        await settle(backend, [first], End.RETRY, error=BOOM, now=NOW + SECOND)
        await backend.promote(now=NOW + SECOND)
        [second] = await take(backend, node, now=NOW + SECOND)
        await settle(backend, [second], End.DISCARD, error=BOOM, now=NOW + MINUTE)
        await backend.retry(JobFilter(ids=(first.id,)), now=NOW + HOUR)
        [third] = await take(backend, node, now=NOW + HOUR)
        assert {job.inserted_at for job in (first, second, third)} == {enqueued}
