"""Conformance: unique keys, held until a job is done or for a period."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, Retention
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    ids_of,
    join,
    look,
    new_job,
    only,
    put,
    put_ended,
    put_running,
    rescue_all,
    settle,
    state_of,
    take,
)

UNTIL_DONE = Unique(key="given:report")
FOR_AN_HOUR = Unique(key="given:hourly", period=HOUR)


async def ask(backend: Backend, unique: Unique = UNTIL_DONE, *, now: datetime = NOW) -> Insertion:
    """Insert a job that wants a key, in a queue of its own."""
    [insertion] = await backend.insert([new_job(unique=unique, queue="others")], now=now)
    return insertion


async def check_holder(backend: Backend, holder: JobId, unique: Unique = UNTIL_DONE, *, now: datetime = NOW) -> None:
    """Check that this job holds the key."""
    assert await ask(backend, unique, now=now) == Insertion(id=holder, is_new=False)


async def check_free(backend: Backend, unique: Unique = UNTIL_DONE, *, now: datetime = NOW) -> None:
    """Check that no job holds the key, by taking it."""
    assert (await ask(backend, unique, now=now)).is_new


async def remove(backend: Backend, job_id: JobId, *, is_pruned: bool) -> None:
    """Have an ended job deleted, by an operator or by the clean-up."""
    if is_pruned:
        assert await backend.prune(Retention(completed=SECOND, failed=SECOND), now=NOW + MINUTE) == 1
    else:
        assert await backend.delete(only(job_id)) == [job_id]


class UniqueConformance:
    """The contract of unique keys, in whatever way a job ends."""

    @pytest.mark.parametrize("unique", [UNTIL_DONE, FOR_AN_HOUR])
    async def test_a_second_insert_gets_the_holder_and_makes_no_job(self, backend: Backend, unique: Unique) -> None:
        holder = await put(backend, unique=unique)
        second = new_job(unique=unique, arguments="[[],{}]")
        assert await backend.insert([second], now=NOW) == [Insertion(id=holder, is_new=False)]
        assert (await backend.find(JobQuery())).total == 1
        assert (await look(backend, holder)).unique_key == unique.key

    async def test_of_two_in_one_call_the_first_takes_the_key(self, backend: Backend) -> None:
        first, second = new_job(unique=UNTIL_DONE), new_job(unique=UNTIL_DONE)
        answers = await backend.insert([first, second], now=NOW)
        [holder] = await ids_of(backend, [first])
        assert answers == [Insertion(id=holder, is_new=True), Insertion(id=holder, is_new=False)]

    async def test_different_keys_do_not_meet(self, backend: Backend) -> None:
        await put(backend, unique=UNTIL_DONE)
        await put(backend, unique=Unique(key=UNTIL_DONE.key.upper()))
        await put(backend)

    async def test_the_holder_sent_again_gets_itself(self, backend: Backend) -> None:
        job = new_job(unique=UNTIL_DONE)
        [made] = await backend.insert([job], now=NOW)
        assert await backend.insert([job], now=NOW) == [Insertion(id=made.id, is_new=False)]

    async def test_a_held_key_does_not_keep_its_neighbours_out(self, backend: Backend) -> None:
        holder = await put(backend, unique=UNTIL_DONE)
        jobs = [new_job(), new_job(unique=UNTIL_DONE), new_job()]
        answers = await backend.insert(jobs, now=NOW)
        first, last = await ids_of(backend, [jobs[0], jobs[2]])
        assert [(answer.id, answer.is_new) for answer in answers] == [(first, True), (holder, False), (last, True)]

    @pytest.mark.parametrize("end", [End.COMPLETE, End.FAIL, End.DISCARD, End.CANCEL])
    async def test_an_end_releases_the_key_held_until_done(self, backend: Backend, end: End) -> None:
        job = await put_running(backend, await join(backend), unique=UNTIL_DONE)
        await check_holder(backend, job.id)
        await settle(backend, [job], end)
        await check_free(backend)

    @pytest.mark.parametrize("end", [End.RETRY, End.SNOOZE, End.RELEASE])
    async def test_an_attempt_that_is_followed_by_another_keeps_the_key(self, backend: Backend, end: End) -> None:
        job = await put_running(backend, await join(backend), unique=UNTIL_DONE)
        await settle(backend, [job], end, delay=MINUTE)
        await check_holder(backend, job.id)
        await backend.promote(now=NOW + HOUR)
        await check_holder(backend, job.id)

    @pytest.mark.parametrize("end", [End.RETRY, End.SNOOZE, End.RELEASE])
    async def test_a_requested_cancel_releases_the_key_when_it_takes_hold(self, backend: Backend, end: End) -> None:
        job = await put_running(backend, await join(backend), unique=UNTIL_DONE)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        await check_holder(backend, job.id)
        await settle(backend, [job], end)
        await check_free(backend)

    @pytest.mark.parametrize("delay", [timedelta(0), HOUR])
    async def test_cancelling_a_waiting_job_releases_the_key(self, backend: Backend, delay: timedelta) -> None:
        job_id = await put(backend, unique=UNTIL_DONE, delay=delay)
        await backend.cancel(only(job_id), reason="enough", now=NOW)
        await check_free(backend)

    async def test_expiry_releases_the_key(self, backend: Backend) -> None:
        await put(backend, unique=UNTIL_DONE, expires_in=MINUTE)
        await backend.expire(now=NOW + HOUR)
        await check_free(backend, now=NOW + HOUR)

    async def test_a_rescue_that_discards_releases_the_key(self, backend: Backend) -> None:
        node = await join(backend)
        await put_running(backend, node, unique=UNTIL_DONE, max_attempts=1)
        await rescue_all(backend, node)
        await check_free(backend)

    async def test_a_rescue_that_cancels_releases_the_key(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, unique=UNTIL_DONE)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        await rescue_all(backend, node)
        await check_free(backend)

    async def test_a_rescue_that_gives_the_job_back_keeps_the_key(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, unique=UNTIL_DONE)
        await rescue_all(backend, node)
        await check_holder(backend, job.id)

    async def test_deleting_a_job_releases_the_key_held_until_done(self, backend: Backend) -> None:
        job_id = await put(backend, unique=UNTIL_DONE)
        await backend.delete(only(job_id))
        await check_free(backend)

    async def test_a_key_held_for_a_period_outlives_the_end_of_its_job(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), unique=FOR_AN_HOUR)
        await settle(backend, [job])
        await check_holder(backend, job.id, FOR_AN_HOUR, now=NOW + HOUR - SECOND)

    @pytest.mark.parametrize("is_pruned", [True, False])
    async def test_a_key_held_for_a_period_outlives_a_job_that_completed(
        self,
        backend: Backend,
        is_pruned: bool,  # noqa: FBT001
    ) -> None:
        job_id = await put_ended(backend, State.COMPLETED, unique=FOR_AN_HOUR)
        await remove(backend, job_id, is_pruned=is_pruned)
        await check_holder(backend, job_id, FOR_AN_HOUR, now=NOW + HOUR - SECOND)
        await check_free(backend, FOR_AN_HOUR, now=NOW + HOUR + SECOND)

    @pytest.mark.parametrize("is_pruned", [True, False])
    async def test_a_deleted_job_that_did_not_complete_holds_its_key_no_longer(
        self,
        backend: Backend,
        is_pruned: bool,  # noqa: FBT001
    ) -> None:
        for state in (State.CANCELLED, State.FAILED, State.DISCARDED):
            for unique in (Unique(key=f"given:{state}"), Unique(key=f"given:hourly-{state}", period=HOUR)):
                job_id = await put_ended(backend, state, unique=unique)
                await remove(backend, job_id, is_pruned=is_pruned)
                await check_free(backend, unique, now=NOW + MINUTE)

    @pytest.mark.parametrize("unique", [UNTIL_DONE, FOR_AN_HOUR])
    async def test_a_waiting_job_that_is_deleted_holds_its_key_no_longer(
        self, backend: Backend, unique: Unique
    ) -> None:
        for delay in (timedelta(0), MINUTE):
            job_id = await put(backend, unique=unique, delay=delay)
            await backend.delete(only(job_id))
        await check_free(backend, unique)

    @pytest.mark.parametrize("unique", [UNTIL_DONE, FOR_AN_HOUR])
    async def test_a_job_that_was_cancelled_while_it_waited_and_deleted_holds_its_key_no_longer(
        self, backend: Backend, unique: Unique
    ) -> None:
        job_id = await put(backend, unique=unique)
        await backend.cancel(only(job_id), reason="enough", now=NOW)
        await backend.delete(only(job_id))
        await check_free(backend, unique)

    async def test_a_cancel_alone_leaves_a_key_held_for_its_period(self, backend: Backend) -> None:
        job_id = await put(backend, unique=FOR_AN_HOUR)
        await backend.cancel(only(job_id), reason="enough", now=NOW)
        await check_holder(backend, job_id, FOR_AN_HOUR, now=NOW + HOUR - SECOND)

    async def test_many_that_are_deleted_at_once_each_let_go_of_their_key(self, backend: Backend) -> None:
        kinds = [Unique(key=f"given:{number}", period=HOUR if number % 2 else None) for number in range(6)]
        jobs = [new_job(unique=unique) for unique in kinds]
        await backend.insert(jobs, now=NOW)
        await backend.cancel(JobFilter(), reason="enough", now=NOW)
        assert len(await backend.delete(JobFilter(states=frozenset({State.CANCELLED})))) == 6
        for unique in kinds:
            await check_free(backend, unique)

    async def test_an_earlier_holder_that_is_deleted_leaves_the_key_of_a_later_one(self, backend: Backend) -> None:
        early = await put(backend, unique=FOR_AN_HOUR)
        later = await ask(backend, FOR_AN_HOUR, now=NOW + 2 * HOUR)
        await backend.cancel(only(early), reason="enough", now=NOW + 2 * HOUR)
        await backend.delete(only(early))
        await check_holder(backend, later.id, FOR_AN_HOUR, now=NOW + 2 * HOUR)

    async def test_a_period_counts_from_the_enqueue_and_not_from_the_due_time(self, backend: Backend) -> None:
        job_id = await put(backend, unique=FOR_AN_HOUR, delay=DAY)
        await check_holder(backend, job_id, FOR_AN_HOUR, now=NOW + HOUR - SECOND)
        await check_free(backend, FOR_AN_HOUR, now=NOW + HOUR + SECOND)
        assert await state_of(backend, job_id) is State.SCHEDULED

    async def test_an_earlier_holder_cannot_release_the_key_of_a_later_one(self, backend: Backend) -> None:
        node = await join(backend)
        early = await put_running(backend, node, unique=FOR_AN_HOUR)
        later = await ask(backend, FOR_AN_HOUR, now=NOW + 2 * HOUR)
        assert later.is_new
        await settle(backend, [early], now=NOW + 2 * HOUR)
        await backend.delete(only(early.id))
        await check_holder(backend, later.id, FOR_AN_HOUR, now=NOW + 2 * HOUR)

    async def test_pruning_leaves_later_holders_alone(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), unique=UNTIL_DONE)
        await settle(backend, [job])
        holder = await ask(backend)
        assert await backend.prune(Retention(completed=MINUTE), now=NOW + HOUR) == 1
        await check_holder(backend, holder.id)

    async def test_a_retried_job_takes_its_free_key_again(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), unique=UNTIL_DONE)
        await settle(backend, [job], End.FAIL, error=BOOM)
        assert len(await backend.retry(only(job.id), now=NOW)) == 1
        await check_holder(backend, job.id)

    async def test_a_retried_job_runs_without_its_key_when_another_holds_it(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, unique=UNTIL_DONE)
        await settle(backend, [job], End.FAIL, error=BOOM)
        other = await ask(backend)
        assert len(await backend.retry(only(job.id), now=NOW)) == 1
        await check_holder(backend, other.id)
        [again] = await take(backend, node)
        assert again.id == job.id
        await settle(backend, [again])
        await check_holder(backend, other.id)

    async def test_of_two_retried_jobs_of_one_key_the_first_takes_it(self, backend: Backend) -> None:
        node = await join(backend)
        ended = []
        for _ in range(2):
            job = await put_running(backend, node, unique=UNTIL_DONE)
            await settle(backend, [job], End.FAIL, error=BOOM)
            ended.append(job.id)
        assert len(await backend.retry(only(*ended), now=NOW)) == 2
        assert (await ask(backend)).id in ended

    async def test_a_job_retried_after_its_period_holds_its_free_key_until_it_ends(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, unique=FOR_AN_HOUR)
        await settle(backend, [job], End.FAIL, error=BOOM)
        later = NOW + DAY
        await backend.retry(only(job.id), now=later)
        await check_holder(backend, job.id, FOR_AN_HOUR, now=later)
        await settle(backend, await take(backend, node, now=later), now=later)
        await check_free(backend, FOR_AN_HOUR, now=later)

    async def test_a_job_retried_within_its_period_holds_its_key_no_longer_than_that(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), unique=FOR_AN_HOUR)
        await settle(backend, [job], End.FAIL, error=BOOM)
        await backend.retry(only(job.id), now=NOW + MINUTE)
        await check_holder(backend, job.id, FOR_AN_HOUR, now=NOW + HOUR - SECOND)
        await check_free(backend, FOR_AN_HOUR, now=NOW + HOUR + SECOND)
