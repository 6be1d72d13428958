"""Conformance: inserting jobs."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend, JobQuery
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.job import Insertion, Job, JobOptions
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import DuplicateJobError, UnsupportedError
from deeper_tasks.testing.conformance.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    ids_of,
    join,
    look,
    new_job,
    new_token,
    only,
    put,
    settle,
    state_of,
    take,
)


class InsertConformance:
    """The contract of `insert`."""

    async def test_an_inserted_job_is_kept_with_all_that_was_said_about_it(self, backend: Backend) -> None:
        options = JobOptions(
            retry_delay=timedelta(seconds=1.5),
            timeout=MINUTE,
            tags=("mail", "größe"),
            meta={"tenant": 7, "deep": {"list": [1, None, "x"]}},
        )
        job = new_job(
            task="shop.mails.Sender.send",
            arguments='[ ["ünï", 1.50], {} ]',
            queue="emails",
            priority=-7,
            max_attempts=9,
            expires_in=HOUR,
            options=options,
        )
        [made] = await backend.insert([job], now=NOW)
        assert await backend.get(made.id) == Job(
            id=made.id,
            state=State.PENDING,
            task="shop.mails.Sender.send",
            arguments='[ ["ünï", 1.50], {} ]',
            queue="emails",
            priority=-7,
            attempt=0,
            max_attempts=9,
            inserted_at=NOW,
            scheduled_at=NOW,
            expires_at=NOW + HOUR,
            options=options,
        )

    async def test_the_answers_are_in_the_order_of_the_jobs(self, backend: Backend) -> None:
        jobs = [new_job() for _ in range(20)]
        jobs.reverse()
        answers = await backend.insert(jobs, now=NOW)
        assert answers == [Insertion(id=job_id, is_new=True) for job_id in await ids_of(backend, jobs)]

    async def test_inserting_no_jobs_gives_no_answers(self, backend: Backend) -> None:
        assert await backend.insert([], now=NOW) == []

    async def test_a_delayed_job_is_scheduled(self, backend: Backend) -> None:
        job = await look(backend, await put(backend, delay=MINUTE))
        assert (job.state, job.scheduled_at, job.inserted_at) == (State.SCHEDULED, NOW + MINUTE, NOW)

    async def test_a_job_due_in_the_future_is_scheduled(self, backend: Backend) -> None:
        job = await look(backend, await put(backend, due=NOW + HOUR))
        assert (job.state, job.scheduled_at) == (State.SCHEDULED, NOW + HOUR)

    async def test_by_a_clock_far_ahead_no_moment_lies_beyond_the_end_of_time(self, backend: Backend) -> None:
        far, long, unique = END_OF_TIME - 400 * DAY, 36_500 * DAY, Unique(key="given:long", period=36_500 * DAY)
        beyond = END_OF_TIME.replace(day=31, hour=23)
        delayed = await put(backend, now=far, delay=long)
        expiring = await put(backend, now=far, expires_in=long, unique=unique)
        both = await put(backend, now=far, due=beyond, expires_in=long)
        assert (await look(backend, delayed)).scheduled_at == END_OF_TIME
        assert (await look(backend, expiring)).expires_at == END_OF_TIME
        job = await look(backend, both)
        assert (job.scheduled_at, job.expires_at) == (END_OF_TIME, END_OF_TIME)
        [answer] = await backend.insert([new_job(unique=unique)], now=END_OF_TIME - DAY)
        assert answer == Insertion(id=expiring, is_new=False)
        [running] = await take(backend, await join(backend), now=far)
        await settle(backend, [running], End.RETRY, delay=long, now=far)
        assert (await look(backend, expiring)).scheduled_at == END_OF_TIME
        assert (await backend.find(JobQuery())).total == 3

    async def test_a_due_time_in_any_zone_means_the_same_moment(self, backend: Backend) -> None:
        due = (NOW + HOUR).astimezone(timezone(timedelta(hours=-7)))
        job = await look(backend, await put(backend, due=due))
        assert (job.state, job.scheduled_at) == (State.SCHEDULED, NOW + HOUR)

    async def test_a_due_time_is_kept_to_the_microsecond(self, backend: Backend) -> None:
        due = NOW + timedelta(microseconds=1)
        job = await look(backend, await put(backend, due=due))
        assert (job.state, job.scheduled_at) == (State.SCHEDULED, due)

    async def test_a_due_time_that_has_passed_counts_as_now(self, backend: Backend) -> None:
        job = await look(backend, await put(backend, due=NOW - HOUR))
        assert (job.state, job.scheduled_at) == (State.PENDING, NOW)

    async def test_expiry_counts_from_the_due_time(self, backend: Backend) -> None:
        late = await look(backend, await put(backend, delay=MINUTE, expires_in=HOUR))
        past = await look(backend, await put(backend, due=NOW - HOUR, expires_in=HOUR))
        assert late.expires_at == NOW + MINUTE + HOUR
        assert past.expires_at == NOW + HOUR

    async def test_the_store_has_a_clock_of_its_own(self, backend: Backend) -> None:
        [insertion] = await backend.insert([new_job(delay=HOUR)])
        job = await look(backend, insertion.id)
        assert job.scheduled_at - job.inserted_at == HOUR
        assert job.inserted_at.utcoffset() == timedelta(0)

    async def test_the_same_id_again_gives_the_job_that_is_there(self, backend: Backend) -> None:
        jobs = [new_job(delay=MINUTE), new_job()]
        made = await backend.insert(jobs, now=NOW)
        first = await look(backend, made[0].id)
        again = await backend.insert(jobs, now=NOW + SECOND)
        assert again == [Insertion(id=answer.id, is_new=False) for answer in made]
        assert await look(backend, made[0].id) == first
        assert (await backend.find(JobQuery())).total == 2

    async def test_the_same_id_again_leaves_a_running_or_ended_job_alone(self, backend: Backend) -> None:
        job = new_job()
        [made] = await backend.insert([job], now=NOW)
        node = await join(backend)
        claim = await backend.claim("default", limit=1, slots=1, node=node, token=new_token(), now=NOW)
        assert await backend.insert([job], now=NOW) == [Insertion(id=made.id, is_new=False)]
        assert await state_of(backend, made.id) is State.RUNNING
        await settle(backend, claim.jobs)
        assert await backend.insert([job], now=NOW) == [Insertion(id=made.id, is_new=False)]
        assert await state_of(backend, made.id) is State.COMPLETED

    async def test_the_same_id_in_another_queue_gives_the_job_that_is_there(self, backend: Backend) -> None:
        job = new_job(queue="one")
        [made] = await backend.insert([job], now=NOW)
        moved = replace(job, spec=replace(job.spec, queue="two", priority=5))
        assert await backend.insert([moved], now=NOW) == [Insertion(id=made.id, is_new=False)]
        assert (await look(backend, made.id)).queue == "one"

    async def test_the_same_id_twice_in_one_call_makes_one_job(self, backend: Backend) -> None:
        job = new_job()
        answers = await backend.insert([job, new_job(), job], now=NOW)
        assert [answer.is_new for answer in answers] == [True, True, False]
        assert [answers[0].id] == [answers[2].id] == await ids_of(backend, [job])
        assert (await backend.find(JobQuery())).total == 2

    @pytest.mark.parametrize("other", [{"task": "shop.other"}, {"arguments": "[[43],{}]"}])
    async def test_the_same_id_with_other_content_is_refused_and_nothing_inserted(
        self, backend: Backend, other: dict[str, str]
    ) -> None:
        job = new_job()
        await backend.insert([job], now=NOW)
        before, after = new_job(), new_job()
        with pytest.raises(DuplicateJobError, match=job.request_id) as raised:
            await backend.insert([before, new_job(request_id=job.request_id, **other), after], now=NOW)  # type: ignore[arg-type]
        assert raised.value.request_id == job.request_id
        assert (await backend.find(JobQuery())).total == 1

    async def test_other_content_under_one_id_in_one_call_is_refused(self, backend: Backend) -> None:
        job = new_job()
        with pytest.raises(DuplicateJobError) as raised:
            await backend.insert([job, new_job(request_id=job.request_id, arguments="[[],{}]")], now=NOW)
        assert raised.value.request_id == job.request_id
        assert (await backend.find(JobQuery())).total == 0

    async def test_more_jobs_than_go_in_at_once_are_refused_whole(self, backend: Backend) -> None:
        jobs = [new_job() for _ in range(backend.capabilities.max_atomic_insert + 1)]
        with pytest.raises(UnsupportedError):
            await backend.insert(jobs, now=NOW)
        assert (await backend.find(JobQuery())).total == 0

    async def test_any_number_of_jobs_goes_in_when_it_need_not_be_at_once(self, backend: Backend) -> None:
        jobs = [new_job() for _ in range(backend.capabilities.max_atomic_insert + 1)]
        answers = await backend.insert(jobs, atomic=False, now=NOW)
        assert answers == [Insertion(id=job_id, is_new=True) for job_id in await ids_of(backend, jobs)]
        assert (await backend.find(JobQuery(limit=1))).total == len(jobs)

    async def test_a_batch_that_repeats_some_jobs_inserts_the_others(self, backend: Backend) -> None:
        jobs = [new_job() for _ in range(1200)]
        await backend.insert(jobs[::2], now=NOW)
        answers = await backend.insert(jobs, now=NOW)
        assert [answer.is_new for answer in answers] == [False, True] * 600
        assert [answer.id for answer in answers] == await ids_of(backend, jobs)

    async def test_a_deleted_job_can_be_inserted_again(self, backend: Backend) -> None:
        job = new_job()
        [first] = await backend.insert([job], now=NOW)
        [claimed] = await take(backend, await join(backend))
        await settle(backend, [claimed], End.FAIL)
        assert await backend.delete(only(first.id)) == [first.id]
        [second] = await backend.insert([job], now=NOW)
        assert second.is_new
        assert (await look(backend, second.id)).attempt == 0
