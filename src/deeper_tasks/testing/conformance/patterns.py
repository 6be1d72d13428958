"""Conformance: claiming jobs of all the queues that a pattern matches."""

from __future__ import annotations

import asyncio

from deeper_tasks.backends.protocol import Backend, QueueSettings
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.testing.conformance.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    join,
    look,
    new_job,
    new_token,
    put,
    put_many,
    put_running,
    rescue_all,
    take,
)

EVERY = QueuePattern(prefix="")
TENANTS = QueuePattern(prefix="tenant-")


async def queues_of(
    backend: Backend, node: NodeId, pattern: QueuePattern, *, limit: int = 10, after: str = ""
) -> list[str]:
    """Claim by a pattern, and return the queues of the jobs in running order."""
    return [job.queue for job in await take(backend, node, queue=pattern, limit=limit, after=after)]


class PatternConformance:
    """The contract of `claim` with a pattern."""

    async def test_a_pattern_takes_jobs_of_all_queues_whose_names_begin_so(self, backend: Backend) -> None:
        node = await join(backend)
        for queue in (
            "tenant",
            "tenant-",
            "tenant-1",
            "tenant-ä",
            "tenant-\N{PILE OF POO}",
            "tenant.",
            "Tenant-1",
            "a",
        ):
            await put(backend, queue=queue)
        taken = await queues_of(backend, node, TENANTS)
        assert taken == ["tenant-", "tenant-1", "tenant-ä", "tenant-\N{PILE OF POO}"]
        assert await queues_of(backend, node, EVERY) == ["Tenant-1", "a", "tenant", "tenant."]
        assert await queues_of(backend, node, EVERY) == []

    async def test_queues_of_a_pattern_are_served_in_turn(self, backend: Backend) -> None:
        node = await join(backend)
        big = await put_many(backend, 20, queue="tenant-b")
        small = await put_many(backend, 2, queue="tenant-a")
        [last] = await put_many(backend, 1, queue="tenant-c")
        jobs = await take(backend, node, queue=TENANTS, limit=8)
        assert [job.id for job in jobs] == [small[0], big[0], last, small[1], *big[1:5]]
        assert [job.id for job in await take(backend, node, queue=TENANTS, limit=3)] == big[5:8]

    async def test_the_turn_goes_on_after_the_queue_that_was_served_last(self, backend: Backend) -> None:
        node = await join(backend)
        for queue in ("tenant-a", "tenant-b", "tenant-c"):
            await put_many(backend, 5, queue=queue)
        served, after = [], ""
        for _ in range(7):
            [after] = await queues_of(backend, node, TENANTS, limit=1, after=after)
            served.append(after[-1])
        assert "".join(served) == "abcabca"
        assert await queues_of(backend, node, TENANTS, limit=2, after="tenant-b") == ["tenant-c", "tenant-a"]
        # A queue that is gone, or that the pattern never matched.
        assert await queues_of(backend, node, TENANTS, limit=1, after="tenant-aa") == ["tenant-b"]
        assert await queues_of(backend, node, TENANTS, limit=1, after="zebra") == ["tenant-a"]

    async def test_within_a_queue_of_a_pattern_the_order_is_that_of_a_claim(self, backend: Backend) -> None:
        node = await join(backend)
        low = await put(backend, queue="tenant-a", priority=5)
        later = await put(backend, queue="tenant-a", now=NOW + SECOND)
        high = await put(backend, queue="tenant-a", priority=-1, now=NOW + SECOND)
        await put(backend, queue="tenant-a", delay=HOUR)
        await put(backend, queue="tenant-a", priority=-5, expires_in=SECOND)
        other = await put(backend, queue="tenant-b", priority=100)
        jobs = await take(backend, node, queue=TENANTS, limit=10, now=NOW + MINUTE)
        assert [job.id for job in jobs] == [high, other, later, low]

    async def test_a_paused_queue_is_passed_over_and_hides_no_other(self, backend: Backend) -> None:
        node = await join(backend)
        for queue in ("tenant-a", "tenant-b", "tenant-c"):
            await put_many(backend, 2, queue=queue)
        await backend.put_queue(QueueSettings(name="tenant-a", paused_at=NOW))
        await backend.put_queue(QueueSettings(name="tenant-c", paused_at=NOW))
        assert await queues_of(backend, node, TENANTS, limit=1) == ["tenant-b"]
        await backend.put_queue(QueueSettings(name="tenant-c"))
        assert await queues_of(backend, node, TENANTS) == ["tenant-b", "tenant-c", "tenant-c"]
        claim = await backend.claim(TENANTS, limit=5, slots=5, node=node, token=new_token(), now=NOW)
        assert claim.jobs == ()

    async def test_queues_without_a_job_that_may_run_hide_no_other(self, backend: Backend) -> None:
        node = await join(backend)
        for queue in ("tenant-a", "tenant-b", "tenant-e"):
            await put_many(backend, 3, queue=queue, expires_in=SECOND)
        dead = await join(backend)
        lost = await put_running(backend, dead, queue="tenant-c")
        await rescue_all(backend, dead)
        due = [await put(backend, queue=queue, now=NOW + MINUTE) for queue in ("tenant-d", "tenant-f")]
        jobs = [
            (await take(backend, node, queue=TENANTS, after=after, quarantined=0, now=NOW + MINUTE))[0].id
            for after in ("", "tenant-d")
        ]
        assert jobs == due
        assert await take(backend, node, queue=TENANTS, limit=3, quarantined=0, now=NOW + MINUTE) == ()
        [again] = await take(backend, node, queue=TENANTS, limit=3, now=NOW + MINUTE)
        assert again.id == lost.id

    async def test_claims_at_once_find_each_a_share_of_the_queues(self, backend: Backend) -> None:
        nodes = [await join(backend) for _ in range(6)]
        await backend.insert([new_job(queue=f"tenant-{number:02}") for number in range(30)], now=NOW)
        claims = await asyncio.gather(*(take(backend, node, queue=TENANTS, limit=5) for node in nodes))
        assert [len(jobs) for jobs in claims] == [5] * 6
        assert len({job.id for jobs in claims for job in jobs}) == 30

    async def test_what_another_entry_serves_is_left_to_it(self, backend: Backend) -> None:
        node = await join(backend)
        for queue in ("tenant-1", "tenant-eu", "tenant-eu-1", "tenant-eu-2", "tenant-vip", "tenant-vip-2", "z"):
            await put(backend, queue=queue)
        pattern = QueuePattern(
            prefix="", excluded=frozenset({"tenant-vip", "none"}), excluded_prefixes=("tenant-eu-", "x")
        )
        assert await queues_of(backend, node, pattern) == ["tenant-1", "tenant-eu", "tenant-vip-2", "z"]
        assert await queues_of(backend, node, pattern) == []

    async def test_jobs_claimed_by_a_pattern_are_like_others(self, backend: Backend) -> None:
        node, token = await join(backend), new_token()
        await put_many(backend, 2, queue="tenant-a", arguments='["ü"]')
        await put_many(backend, 1, queue="tenant-b")
        jobs = await take(backend, node, queue=TENANTS, limit=3, token=token)
        assert [(job.queue, job.attempt, job.has_started) for job in jobs] == [
            ("tenant-a", 1, True),
            ("tenant-b", 1, True),
            ("tenant-a", 1, True),
        ]
        started = [(await look(backend, job.id)).attempted_at for job in jobs]
        assert started == [NOW] * 3
        await put(backend, queue="tenant-a")
        again = await take(backend, node, queue=TENANTS, limit=3, token=token)
        assert sorted(again, key=_id) == sorted(jobs, key=_id)

    async def test_a_pattern_takes_no_more_than_a_batch(self, backend: Backend) -> None:
        node = await join(backend)
        names = [f"tenant-{number:02}" for number in range(30)]
        await backend.insert([new_job(queue=queue) for queue in names for _ in range(20)], now=NOW)
        first = await queues_of(backend, node, TENANTS, limit=2000)
        assert first == (names * 20)[: backend.capabilities.max_batch]
        second = await queues_of(backend, node, TENANTS, limit=2000, after=first[-1])
        assert second == (names * 20)[backend.capabilities.max_batch :]


def _id(job: ClaimedJob) -> str:
    return job.id
