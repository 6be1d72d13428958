"""Conformance: many callers at once, in tasks, threads and event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend, JobQuery
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import JobSpec
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.settlement import End, Settled
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.testing.conformance.builders import (
    DAY,
    MINUTE,
    NOW,
    every_job,
    ids_of,
    in_order,
    join,
    look,
    may_be_ids_of,
    new_job,
    node_record,
    put_many,
    put_running,
    settle,
    state_of,
    take,
    take_all,
)


async def work(backend: Backend, *, limit: int = 7) -> list[JobId]:
    """Claim and complete jobs until there are none; returns them."""
    node = await join(backend)
    done: list[JobId] = []
    while jobs := await take(backend, node, limit=limit):
        settled = await settle(backend, jobs)
        assert [one.id for one in settled] == [job.id for job in jobs]
        done.extend(job.id for job in jobs)
    return done


async def on_loops_of_their_own(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run each call on an event loop and a thread of its own, all at once."""
    return await asyncio.gather(*(asyncio.to_thread(asyncio.run, call) for call in calls))


class ConcurrencyConformance:
    """The contract of each call when several callers act at the same time."""

    async def test_many_tasks_of_one_loop_never_claim_a_job_twice(self, backend: Backend) -> None:
        ids = await put_many(backend, 400)
        shares = await asyncio.gather(*(work(backend) for _ in range(10)))
        assert in_order(job_id for share in shares for job_id in share) == ids

    async def test_several_threads_with_loops_of_their_own_never_claim_a_job_twice(self, backend: Backend) -> None:
        ids = await put_many(backend, 400)
        shares = await on_loops_of_their_own(*(work(backend) for _ in range(4)))
        assert in_order(job_id for share in shares for job_id in share) == ids

    async def test_one_thread_inserts_while_another_works(self, backend: Backend) -> None:
        async def insert_all() -> list[JobId]:
            return [job_id for _ in range(40) for job_id in await put_many(backend, 5)]

        inserted, first = await on_loops_of_their_own(insert_all(), work(backend))
        rest = await work(backend)
        assert sorted([*first, *rest]) == sorted(inserted)
        assert {job.state for job in await every_job(backend)} == {State.COMPLETED}

    async def test_jobs_inserted_one_by_one_by_many_are_all_there(self, backend: Backend) -> None:
        jobs = [new_job() for _ in range(200)]
        answers = await asyncio.gather(*(backend.insert([job], now=NOW) for job in jobs))
        assert [answer.id for [answer] in answers] == await ids_of(backend, jobs)
        assert (await backend.find(JobQuery())).total == 200

    async def test_one_id_inserted_by_many_makes_one_job(self, backend: Backend) -> None:
        job = new_job()
        answers = await asyncio.gather(*(backend.insert([job], now=NOW) for _ in range(20)))
        assert [answer.is_new for [answer] in answers].count(True) == 1
        assert (await backend.find(JobQuery())).total == 1

    async def test_one_refused_insert_does_not_harm_those_beside_it(self, backend: Backend) -> None:
        job = new_job()
        await backend.insert([job], now=NOW)
        others = [new_job() for _ in range(20)]
        batches = [[other] for other in others]
        batches.insert(10, [new_job(), new_job(request_id=job.request_id, arguments="[[],{}]")])
        answers = await asyncio.gather(*(backend.insert(batch, now=NOW) for batch in batches), return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in answers].count(True) == 1
        assert (await backend.find(JobQuery())).total == 21

    async def test_of_many_that_want_a_key_one_gets_it(self, backend: Backend) -> None:
        unique = Unique(key="given:one")
        answers = await asyncio.gather(
            *(backend.insert([new_job(unique=unique)], now=NOW) for _ in range(20)),
            *(asyncio.to_thread(asyncio.run, backend.insert([new_job(unique=unique)], now=NOW)) for _ in range(2)),
        )
        assert [answer.is_new for [answer] in answers].count(True) == 1
        assert len({answer.id for [answer] in answers}) == 1

    async def test_many_that_promote_share_the_work(self, backend: Backend) -> None:
        await put_many(backend, 800, delay=MINUTE)
        promotions = await asyncio.gather(*(backend.promote(now=NOW + DAY) for _ in range(5)))
        assert sum(promotion.count for promotion in promotions) == 800

    async def test_many_that_rescue_a_node_rescue_each_job_once(self, backend: Backend) -> None:
        dead = await join(backend)
        ids = await put_many(backend, 800)
        await take_all(backend, dead)
        beat = (await node_record(backend, dead)).beat
        rescues = await asyncio.gather(*(backend.rescue(dead, beat=beat, now=NOW) for _ in range(5)))
        assert in_order(job.id for rescue in rescues for job in rescue.jobs) == ids
        assert {(await look(backend, job_id)).attempt for job_id in ids[:10]} == {1}

    async def test_of_an_end_and_a_rescue_at_once_one_wins(self, backend: Backend) -> None:
        for _ in range(10):
            node = await join(backend)
            job = await put_running(backend, node)
            beat = (await node_record(backend, node)).beat
            settled, rescue = await asyncio.gather(settle(backend, [job]), backend.rescue(node, beat=beat, now=NOW))
            assert len(settled) + len(rescue.jobs) == 1
            assert await state_of(backend, job.id) is (State.COMPLETED if settled else State.PENDING)
            await settle(backend, await take(backend, await join(backend), limit=5), End.COMPLETE)

    async def test_of_the_same_settlement_sent_by_many_one_counts(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        answers = await asyncio.gather(*(settle(backend, [job], End.RETRY, delay=MINUTE) for _ in range(10)))
        assert answers == [[Settled(id=job.id, state=State.RETRYABLE)]] * 10
        assert (await look(backend, job.id)).attempt == 1


class ScheduleConcurrencyConformance:
    """The contract of `fire`, `run_schedule` and `pause_schedule` for several callers at the same time."""

    async def test_of_many_that_fire_a_run_one_does(self, backend: Backend) -> None:
        spec = JobSpec(task="shop.report", arguments="[[],{}]", queue="default")
        schedule = Schedule(name="daily", recurrence=parse_recurrence("@daily"), spec=spec)
        firing = plan_firing(await backend.put_schedule(schedule, now=NOW), now=NOW + DAY)
        assert firing is not None
        fired = await asyncio.gather(*(backend.fire(firing, now=NOW + DAY) for _ in range(20)))
        assert [one for one in fired if one is not None] != []
        assert fired.count(None) == 19
        assert (await backend.find(JobQuery())).total == 1

    async def test_a_pause_and_a_deploy_at_the_same_time_both_count(self, backend: Backend) -> None:
        spec = JobSpec(task="shop.report", arguments="[[],{}]", queue="default")
        for number in range(20):
            schedule = Schedule(name=f"report {number}", recurrence=parse_recurrence("@daily"), spec=spec)
            changed = replace(schedule, spec=replace(spec, arguments="[[1],{}]"))
            await backend.put_schedule(schedule, now=NOW)
            await asyncio.gather(
                backend.pause_schedule(schedule.name, is_paused=True, now=NOW),
                backend.put_schedule(changed, now=NOW),
            )
        entries = (await backend.schedules(now=NOW)).entries
        assert len(entries) == 20
        assert {(entry.paused_at, entry.schedule.spec.arguments) for entry in entries} == {(NOW, "[[1],{}]")}

    async def test_of_many_that_run_an_entry_with_one_id_one_makes_the_job(self, backend: Backend) -> None:
        spec = JobSpec(task="shop.report", arguments="[[],{}]", queue="default")
        schedule = Schedule(name="daily", recurrence=parse_recurrence("@daily"), spec=spec)
        await backend.put_schedule(schedule, now=NOW)
        request_id = new_job().request_id
        runs = (backend.run_schedule("daily", request_id=request_id, now=NOW) for _ in range(20))
        done = await asyncio.gather(*runs)
        [job_id] = {each.job.id for each in done if each is not None}
        assert may_be_ids_of(backend, [job_id], [request_id])
        assert {each.entry.last_job for each in done if each is not None} == {job_id}
        assert [each.job.is_new for each in done if each is not None].count(True) == 1
        assert (await backend.find(JobQuery())).total == 1
        assert len(await backend.schedule_runs("daily")) == 1
