"""Conformance: a store that other processes share, seen through a second instance."""

from __future__ import annotations

import asyncio

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, QueueSettings
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, JobSpec
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.settlement import End, Settled
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.testing.conformance.builders import (
    DAY,
    MINUTE,
    NOW,
    QUEUE,
    check_counters,
    every_job,
    in_order,
    join,
    look,
    new_job,
    node_record,
    only,
    put,
    put_many,
    put_running,
    rescue_all,
    settle,
    state_of,
    take,
)
from deeper_tasks.testing.conformance.concurrency import on_loops_of_their_own, work


class SharingConformance:
    """The contract of any store: it proves that other processes can share it, or does not claim so."""

    async def test_a_store_that_is_shared_proves_it(self, backend: Backend) -> None:
        assert not backend.capabilities.is_shared or isinstance(self, SharedJobsConformance)


class SharedJobsConformance:
    """
    The contract of a store that is shared.

    The fixture `other` gives a second instance on the store of `backend`, made and opened as another process
    would make it; `backend` is open before it.
    """

    async def test_what_one_inserts_the_other_has_at_once(self, backend: Backend, other: Backend) -> None:
        assert (await other.find(JobQuery())).total == 0
        job_id = await put(backend)
        assert await other.get(job_id) == await backend.get(job_id)
        assert (await other.find(JobQuery())).total == 1
        await other.delete(only(job_id))
        assert await backend.get(job_id) is None

    async def test_the_same_id_through_both_makes_one_job(self, backend: Backend, other: Backend) -> None:
        job = new_job()
        [made] = await backend.insert([job], now=NOW)
        assert made.is_new
        assert await other.insert([job], now=NOW) == [Insertion(id=made.id, is_new=False)]

    async def test_a_unique_key_taken_through_one_is_held_against_the_other(
        self, backend: Backend, other: Backend
    ) -> None:
        unique = Unique(key="given:one")
        answers = await asyncio.gather(
            *(store.insert([new_job(unique=unique)], now=NOW) for _ in range(10) for store in (backend, other))
        )
        assert [answer.is_new for [answer] in answers].count(True) == 1
        assert len({answer.id for [answer] in answers}) == 1

    async def test_two_that_work_at_once_never_claim_a_job_twice(self, backend: Backend, other: Backend) -> None:
        ids = await put_many(backend, 300)
        shares = await on_loops_of_their_own(work(backend), work(other), work(backend), work(other))
        assert in_order(job_id for share in shares for job_id in share) == ids
        assert {job.state for job in await every_job(other)} == {State.COMPLETED}
        await check_counters(other)

    async def test_one_inserts_while_the_other_works(self, backend: Backend, other: Backend) -> None:
        async def insert_all() -> list[JobId]:
            return [job_id for _ in range(40) for job_id in await put_many(other, 5)]

        inserted, first = await on_loops_of_their_own(insert_all(), work(backend))
        rest = await work(backend)
        assert sorted([*first, *rest]) == sorted(inserted)

    async def test_a_job_claimed_through_one_is_settled_through_the_other(
        self, backend: Backend, other: Backend
    ) -> None:
        job = await put_running(backend, await join(backend))
        assert await settle(other, [job], End.RETRY, delay=MINUTE) == [Settled(id=job.id, state=State.RETRYABLE)]
        assert await settle(backend, [job]) == [Settled(id=job.id, state=State.RETRYABLE)]
        assert (await other.promote(now=NOW + MINUTE)).count == 1
        assert await state_of(backend, job.id) is State.PENDING

    async def test_the_same_token_gives_the_same_jobs_through_the_other(self, backend: Backend, other: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 3)
        [job] = await take(backend, node)
        assert await take(other, node, token=job.token) == (job,)

    async def test_a_node_that_one_takes_for_dead_has_lost_its_jobs_for_the_other(
        self, backend: Backend, other: Backend
    ) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await backend.beat(node, busy=1, now=NOW)
        assert await node_record(other, node) == await node_record(backend, node)
        assert await rescue_all(other, node) == [Settled(id=job.id, state=State.PENDING)]
        assert await settle(backend, [job]) == []

    async def test_a_pause_and_a_cancel_through_one_reach_the_other(self, backend: Backend, other: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await other.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        await other.cancel(JobFilter(), reason="enough", now=NOW)
        beat = await backend.beat(node, now=NOW)
        assert beat.paused == {QUEUE}
        assert beat.cancels == {job.id: "enough"}
        await put(backend)
        assert await take(backend, node) == ()

    async def test_one_that_closes_leaves_the_other_at_work(self, backend: Backend, other: Backend) -> None:
        job_id = await put(backend)
        await other.close()
        assert [job.id for job in await take(backend, await join(backend))] == [job_id]
        await other.open()
        assert await state_of(other, job_id) is State.RUNNING


class SharedSchedulesConformance:
    """The contract of the schedules of a store that is shared: `backend` and `other` as in `SharedJobsConformance`."""

    async def test_of_both_that_fire_a_run_one_does(self, backend: Backend, other: Backend) -> None:
        spec = JobSpec(task="shop.report", arguments="[[],{}]", queue=QUEUE)
        schedule = Schedule(name="daily", recurrence=parse_recurrence("@daily"), spec=spec)
        firing = plan_firing(await backend.put_schedule(schedule, now=NOW), now=NOW + DAY)
        assert firing is not None
        stores = (backend, other) * 5
        fired = await asyncio.gather(*(store.fire(firing, now=NOW + DAY) for store in stores))
        [[job_id]] = [one.jobs for one in fired if one is not None]
        assert (await look(other, job_id)).state is State.PENDING
        assert await other.schedule_runs("daily") == await backend.schedule_runs("daily")


class SharedConformance(SharedJobsConformance, SharedSchedulesConformance):
    """The contract of a store that is shared and has schedules: `backend` and `other` as in `SharedJobsConformance`."""
