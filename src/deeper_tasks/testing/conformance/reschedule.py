"""Conformance: another due time for a job that waits, and the end of its delay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from deeper_tasks.backends.protocol import Backend, QueueSettings
from deeper_tasks.domain.end_of_time import END_OF_TIME
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, TERMINAL, State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    QUEUE,
    SECOND,
    join,
    look,
    new_id,
    new_token,
    put,
    put_ended,
    put_running,
    settle,
    take,
)

LATER = NOW + DAY


async def put_waiting(backend: Backend, state: State, **fields: Any) -> JobId:
    """Insert a job and bring it into a state that waits; unless it is pending, it is due in an hour."""
    if state is not State.RETRYABLE:
        return await put(backend, delay=HOUR if state is State.SCHEDULED else timedelta(0), **fields)
    job_id = await put(backend, **fields)
    await settle(backend, await take(backend, await join(backend)), End.RETRY, error=BOOM, delay=HOUR)
    return job_id


async def fields_of(backend: Backend, job_id: JobId) -> tuple[State, datetime, datetime | None]:
    """Return what a rescheduling changes of a job."""
    job = await look(backend, job_id)
    return job.state, job.scheduled_at, job.expires_at


class RescheduleConformance:
    """The contract of `reschedule`."""

    @pytest.mark.parametrize("before", sorted(MAY_BE_RESCHEDULED))
    async def test_a_waiting_job_waits_until_the_moment_that_it_is_put_to(
        self, backend: Backend, before: State
    ) -> None:
        job_id = await put_waiting(backend, before)
        state = State.RETRYABLE if before is State.RETRYABLE else State.SCHEDULED
        attempt = (await look(backend, job_id)).attempt
        assert await backend.reschedule(job_id, due=LATER, now=NOW) == Rescheduled(
            id=job_id,
            task="shop.mails.send",
            queue=QUEUE,
            attempt=attempt,
            before=before,
            state=state,
            scheduled_at=LATER,
        )
        assert await fields_of(backend, job_id) == (state, LATER, None)
        node = await join(backend)
        assert (await backend.promote(now=LATER - SECOND)).count == 0
        assert await take(backend, node, now=LATER - SECOND) == ()
        assert (await backend.promote(now=LATER)).count == 1
        [job] = await take(backend, node, now=LATER)
        assert (job.id, job.attempt) == (job_id, attempt + 1)

    @pytest.mark.parametrize("due", [NOW, NOW - DAY, timedelta(0), datetime.min.replace(tzinfo=NOW.tzinfo), None])
    @pytest.mark.parametrize("before", sorted({State.SCHEDULED, State.RETRYABLE}))
    async def test_a_job_that_is_put_to_now_or_to_a_time_that_has_passed_is_pending_and_due_now(
        self, backend: Backend, before: State, due: datetime | timedelta | None
    ) -> None:
        job_id = await put_waiting(backend, before)
        done = await backend.reschedule(job_id, due=due, now=NOW)
        assert done is not None
        assert (done.before, done.state, done.scheduled_at) == (before, State.PENDING, NOW)
        assert await fields_of(backend, job_id) == (State.PENDING, NOW, None)
        assert [job.id for job in await take(backend, await join(backend))] == [job_id]

    async def test_a_delay_counts_from_the_call(self, backend: Backend) -> None:
        job_id = await put(backend, delay=HOUR)
        await backend.reschedule(job_id, due=MINUTE, now=NOW + SECOND)
        assert await fields_of(backend, job_id) == (State.SCHEDULED, NOW + SECOND + MINUTE, None)
        assert (await backend.promote(now=NOW + SECOND)).next_due_in == MINUTE

    # Half a year on, clocks have changed, and none of that matters.
    @pytest.mark.parametrize("due", [NOW + 200 * DAY + MINUTE, NOW + 3 * HOUR, NOW + MINUTE, NOW])
    async def test_the_expiry_moves_by_the_same_shift(self, backend: Backend, due: datetime) -> None:
        job_id = await put(backend, delay=HOUR, expires_in=HOUR)
        await backend.reschedule(job_id, due=due, now=NOW)
        assert (await look(backend, job_id)).expires_at == due + HOUR

    async def test_a_pending_job_that_has_expired_unnoticed_gets_its_whole_time_again(self, backend: Backend) -> None:
        job_id = await put(backend, expires_in=MINUTE)
        await backend.reschedule(job_id, due=NOW + DAY, now=NOW + HOUR)
        assert await fields_of(backend, job_id) == (State.SCHEDULED, NOW + DAY, NOW + DAY + MINUTE)
        assert await backend.expire(now=NOW + HOUR) == []

    async def test_an_expiry_moves_while_a_retry_is_waited_for(self, backend: Backend) -> None:
        job_id = await put_waiting(backend, State.RETRYABLE, expires_in=DAY)
        await backend.reschedule(job_id, due=NOW + 3 * HOUR, now=NOW)
        assert await fields_of(backend, job_id) == (State.RETRYABLE, NOW + 3 * HOUR, NOW + DAY + 2 * HOUR)
        await backend.reschedule(job_id, due=NOW + HOUR, now=NOW)
        assert await fields_of(backend, job_id) == (State.RETRYABLE, NOW + HOUR, NOW + DAY)

    async def test_a_job_that_would_expire_before_its_retry_is_not_killed_by_being_brought_forward(
        self, backend: Backend
    ) -> None:
        job_id = await put_waiting(backend, State.RETRYABLE, expires_in=MINUTE)
        await backend.reschedule(job_id, due=NOW + SECOND, now=NOW)
        assert await fields_of(backend, job_id) == (State.RETRYABLE, NOW + SECOND, NOW + MINUTE)

    @pytest.mark.parametrize("before", sorted(MAY_BE_RESCHEDULED))
    async def test_the_end_of_a_delay_leaves_the_expiry(self, backend: Backend, before: State) -> None:
        job_id = await put_waiting(backend, before, expires_in=3 * HOUR)
        expires_at = (await look(backend, job_id)).expires_at
        done = await backend.reschedule(job_id, due=None, now=NOW + SECOND)
        assert done is not None
        assert done.state is State.PENDING
        assert (await look(backend, job_id)).expires_at == expires_at

    async def test_a_pending_job_that_is_to_run_at_once_keeps_its_place(self, backend: Backend) -> None:
        first, second = await put(backend), await put(backend)
        before = await look(backend, first)
        done = await backend.reschedule(first, due=None, now=NOW + HOUR)
        assert done is not None
        assert (done.before, done.state, done.scheduled_at) == (State.PENDING, State.PENDING, NOW)
        assert await look(backend, first) == before
        jobs = await take(backend, await join(backend), limit=2, now=NOW + HOUR)
        assert [job.id for job in jobs] == [first, second]

    async def test_what_was_given_back_comes_forward_and_keeps_since_when(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job], End.RELEASE, delay=HOUR, is_task_unknown=True)
        await backend.reschedule(job.id, due=None, now=NOW + SECOND)
        [again] = await take(backend, node, now=NOW + SECOND)
        assert (again.id, again.attempt, again.unknown_since) == (job.id, 1, NOW)

    async def test_a_job_of_a_paused_queue_is_put_forward_and_stays_where_it_is(self, backend: Backend) -> None:
        job_id = await put(backend, delay=HOUR)
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        await backend.reschedule(job_id, due=None, now=NOW)
        assert (await look(backend, job_id)).state is State.PENDING
        claim = await backend.claim(QUEUE, limit=1, slots=1, node=await join(backend), token=new_token(), now=NOW)
        assert claim.jobs == ()

    @pytest.mark.parametrize("due", [LATER, timedelta(0), None])
    async def test_a_job_that_runs_has_ended_or_is_unknown_stays_as_it_is(
        self, backend: Backend, due: datetime | timedelta | None
    ) -> None:
        ended = [await put_ended(backend, state) for state in sorted(TERMINAL)]
        running = await put_running(backend, await join(backend))
        for job_id in (*ended, running.id):
            before = await look(backend, job_id)
            assert await backend.reschedule(job_id, due=due, now=NOW + SECOND) is None
            assert await look(backend, job_id) == before
        assert await backend.reschedule(new_id(), due=due, now=NOW) is None

    async def test_nothing_is_put_beyond_the_end_of_time(self, backend: Backend) -> None:
        job_id = await put(backend, expires_in=HOUR)
        for due in (datetime.max.replace(tzinfo=NOW.tzinfo), timedelta(days=365_000 * 10)):
            await backend.reschedule(job_id, due=due, now=NOW)
            assert await fields_of(backend, job_id) == (State.SCHEDULED, END_OF_TIME, END_OF_TIME)
        await backend.reschedule(job_id, due=None, now=NOW)
        assert await fields_of(backend, job_id) == (State.PENDING, NOW, END_OF_TIME)

    async def test_a_settlement_that_is_sent_again_changes_nothing_of_it(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        first = await settle(backend, [job], End.RETRY, error=BOOM, delay=HOUR)
        await backend.reschedule(job.id, due=LATER, now=NOW)
        assert await settle(backend, [job], End.RETRY, error=BOOM, delay=HOUR) == first
        assert await fields_of(backend, job.id) == (State.RETRYABLE, LATER, None)
