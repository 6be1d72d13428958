"""Conformance: cancelling, retrying and deleting jobs, and pausing queues."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deeper_tasks.backends.protocol import Backend, Claim, JobFilter, JobQuery, QueueSettings, Retried
from deeper_tasks.domain.settlement import End, Settled
from deeper_tasks.domain.state import TERMINAL, State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    QUEUE,
    SECOND,
    every_job,
    join,
    look,
    new_id,
    new_token,
    only,
    put,
    put_ended,
    put_many,
    put_running,
    settle,
    state_of,
    states_in,
    states_of,
    take,
    take_all,
)


class JobControlConformance:
    """The contract of `cancel`, `retry`, `delete` and `put_queue`."""

    async def test_cancelling_a_waiting_job_ends_it_at_once(self, backend: Backend) -> None:
        tried = await put_running(backend, await join(backend))
        await settle(backend, [tried], End.RETRY, delay=HOUR)
        waiting = [tried.id, await put(backend, delay=HOUR), await put(backend)]
        settled = await backend.cancel(only(*waiting), reason="enough", now=NOW + SECOND)
        assert {(one.id, one.state) for one in settled} == {(job_id, State.CANCELLED) for job_id in waiting}
        for job_id in waiting:
            job = await look(backend, job_id)
            assert (job.state, job.finished_at, job.cancel_requested) == (State.CANCELLED, NOW + SECOND, "enough")

    async def test_a_cancelled_job_is_neither_claimed_nor_promoted(self, backend: Backend) -> None:
        ids = [await put(backend), await put(backend, delay=MINUTE)]
        await backend.cancel(only(*ids), reason="enough", now=NOW)
        assert (await backend.promote(now=NOW + HOUR)).count == 0
        assert await take(backend, await join(backend), limit=10, now=NOW + HOUR) == ()

    async def test_cancelling_a_running_job_stores_a_request(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        settled = await backend.cancel(only(job.id), reason="enough", now=NOW)
        assert states_in(settled) == [Settled(id=job.id, state=State.RUNNING)]
        running = await look(backend, job.id)
        assert (running.state, running.cancel_requested, running.finished_at) == (State.RUNNING, "enough", None)

    async def test_cancelling_a_running_job_again_answers_the_same(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        first = await backend.cancel(only(job.id), reason="enough", now=NOW)
        assert await backend.cancel(only(job.id), reason="enough", now=NOW) == first

    async def test_the_first_reason_of_a_cancel_stays(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        await backend.cancel(only(job.id), reason="again", now=NOW)
        assert (await look(backend, job.id)).cancel_requested == "enough"

    async def test_a_reason_may_hold_any_character(self, backend: Backend) -> None:
        node, odd = await join(backend), "a\0b \x01 \\u0000 \" ' \u202e \U0001f701"
        running, waiting = await put_running(backend, node), await put(backend)
        await backend.cancel(JobFilter(ids=(running.id, waiting)), reason=odd, now=NOW)
        reasons = {*(await backend.beat(node, now=NOW)).cancels.values()}
        reasons |= {(await look(backend, job_id)).cancel_requested or "" for job_id in (running.id, waiting)}
        assert reasons <= {odd, odd.replace("\0", "\N{REPLACEMENT CHARACTER}")}

    async def test_names_and_states_together_select_the_jobs_that_match_both(self, backend: Backend) -> None:
        now, later = await put(backend), await put(backend, delay=HOUR)
        target = JobFilter(ids=(now, later), states=frozenset({State.SCHEDULED}))
        assert [job.id for job in (await backend.find(JobQuery(filter=target))).jobs] == [later]
        assert [one.id for one in await backend.cancel(target, reason="enough", now=NOW)] == [later]
        assert await backend.delete(JobFilter(ids=(now, later), states=frozenset({State.CANCELLED}))) == [later]
        assert await state_of(backend, now) is State.PENDING

    async def test_a_running_job_that_was_asked_before_is_answered_only_by_name(self, backend: Backend) -> None:
        node = await join(backend)
        first = await put_running(backend, node)
        await backend.cancel(only(first.id), reason="enough", now=NOW)
        second = await put_running(backend, node)
        settled = await backend.cancel(JobFilter(queue=QUEUE), reason="all of them", now=NOW)
        assert states_in(settled) == [Settled(id=second.id, state=State.RUNNING)]
        assert await backend.cancel(JobFilter(queue=QUEUE), reason="all of them", now=NOW) == []
        assert (await backend.beat(node, now=NOW)).cancels == {first.id: "enough", second.id: "all of them"}

    async def test_running_jobs_are_asked_to_stop_a_batch_at_a_time(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 700)
        await take_all(backend, node)
        answers = [await backend.cancel(JobFilter(), reason="enough", now=NOW) for _ in range(3)]
        assert [len(settled) for settled in answers] == [500, 200, 0]
        assert len((await backend.beat(node, now=NOW)).cancels) == 700

    @pytest.mark.parametrize("state", sorted(TERMINAL))
    async def test_cancelling_leaves_an_ended_job_alone(self, backend: Backend, state: State) -> None:
        job_id = await put_ended(backend, state)
        before = await look(backend, job_id)
        assert await backend.cancel(only(job_id), reason="enough", now=NOW + SECOND) == []
        assert await look(backend, job_id) == before

    async def test_cancelling_an_unknown_job_does_nothing(self, backend: Backend) -> None:
        job_id = await put(backend)
        assert await backend.cancel(only(new_id()), reason="enough", now=NOW) == []
        assert await backend.cancel(only(), reason="enough", now=NOW) == []
        assert await state_of(backend, job_id) is State.PENDING

    async def test_a_filter_cancels_the_jobs_it_selects(self, backend: Backend) -> None:
        selected = await put_many(backend, 3, queue="one", task="shop.mails.send")
        spared = [
            await put(backend, queue="two", task="shop.mails.send"),
            await put(backend, queue="one", task="shop.other"),
            await put(backend, queue="one", task="shop.mails.send", delay=HOUR),
        ]
        target = JobFilter(queue="one", worker_module="shop.mails", states=frozenset({State.PENDING}))
        settled = await backend.cancel(target, reason="enough", now=NOW)
        assert sorted(one.id for one in settled) == selected
        assert State.CANCELLED not in await states_of(backend, spared)

    async def test_jobs_are_cancelled_a_batch_at_a_time(self, backend: Backend) -> None:
        await put_many(backend, 1100)
        answers = [await backend.cancel(JobFilter(), reason="enough", now=NOW) for _ in range(4)]
        assert [len(settled) for settled in answers] == [
            backend.capabilities.max_batch,
            backend.capabilities.max_batch,
            100,
            0,
        ]
        assert len({one.id for settled in answers for one in settled}) == 1100

    async def test_a_retried_job_goes_to_the_end_of_the_line(self, backend: Backend) -> None:
        first, second = await put_many(backend, 2)
        await backend.cancel(only(first), reason="enough", now=NOW)
        await backend.retry(only(first), now=NOW + SECOND)
        jobs = await take(backend, await join(backend), limit=2, now=NOW + SECOND)
        assert [job.id for job in jobs] == [second, first]

    @pytest.mark.parametrize("state", [State.FAILED, State.DISCARDED, State.CANCELLED])
    async def test_a_retried_job_is_pending_and_due_now(self, backend: Backend, state: State) -> None:
        job_id = await put_ended(backend, state)
        assert await backend.retry(only(job_id), now=NOW + HOUR) == [Retried(id=job_id, queue=QUEUE)]
        job = await look(backend, job_id)
        assert (job.state, job.scheduled_at, job.finished_at) == (State.PENDING, NOW + HOUR, None)
        assert [one.id for one in await take(backend, await join(backend), now=NOW + HOUR)] == [job_id]

    async def test_a_retried_job_keeps_its_attempts_and_errors_and_gets_the_original_maximum_more(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        job_id = await put(backend, max_attempts=3)
        for end in (End.RETRY, End.FAIL):
            await settle(backend, await take(backend, node), end, error=BOOM)
            await backend.promote(now=NOW)
        await backend.retry(only(job_id), now=NOW)
        job = await look(backend, job_id)
        assert (job.attempt, job.max_attempts, len(job.errors)) == (2, 5, 2)
        await settle(backend, await take(backend, node), End.FAIL, error=BOOM)
        await backend.retry(only(job_id), now=NOW)
        job = await look(backend, job_id)
        assert (job.attempt, job.max_attempts, len(job.errors)) == (3, 6, 3)
        [again] = await take(backend, node)
        assert (again.attempt, again.max_attempts) == (4, 6)

    async def test_a_claim_tells_how_many_attempts_there_were_before_the_last_retry_by_an_operator(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        job_id = await put(backend, max_attempts=2)
        seen: list[tuple[int, int, int]] = []

        async def run(end: End) -> None:
            token = new_token()
            [job] = (await backend.claim(QUEUE, limit=1, slots=1, node=node, token=token, now=NOW)).jobs
            assert (await backend.claim(QUEUE, limit=1, slots=1, node=node, token=token, now=NOW)).jobs == (job,)
            seen.append((job.attempt, job.earlier_attempts, job.attempt_since_retry))
            await settle(backend, [job], end, error=BOOM, now=NOW)
            await backend.promote(now=NOW)

        for ends in ([End.RETRY, End.DISCARD], [End.SNOOZE, End.RETRY, End.DISCARD], [End.FAIL], [End.COMPLETE]):
            for end in ends:
                await run(end)
            if end is not End.COMPLETE:
                await backend.retry(only(job_id), now=NOW)
        assert seen == [(1, 0, 1), (2, 0, 2), (3, 2, 1), (3, 2, 1), (4, 2, 2), (5, 4, 1), (6, 5, 1)]

    async def test_a_retry_clears_the_expiry(self, backend: Backend) -> None:
        job_id = await put(backend, expires_in=MINUTE)
        await backend.expire(now=NOW + HOUR)
        await backend.retry(only(job_id), now=NOW + HOUR)
        assert (await look(backend, job_id)).expires_at is None
        assert await backend.expire(now=NOW + DAY) == []
        assert len(await take(backend, await join(backend), now=NOW + DAY)) == 1

    async def test_a_retry_clears_the_cancel_request(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        await settle(backend, [job], End.CANCEL)
        await backend.retry(only(job.id), now=NOW)
        assert (await look(backend, job.id)).cancel_requested is None
        jobs = await take(backend, node)
        assert (await backend.beat(node, now=NOW)).cancels == {}
        assert await settle(backend, jobs, End.RETRY) == [Settled(id=job.id, state=State.RETRYABLE)]

    async def test_a_retry_leaves_live_and_completed_jobs_alone(self, backend: Backend) -> None:
        completed = await put_ended(backend, State.COMPLETED)
        running = await put_running(backend, await join(backend))
        ids = [completed, running.id, await put(backend, delay=HOUR), await put(backend)]
        before = [await look(backend, job_id) for job_id in ids]
        assert await backend.retry(JobFilter(), now=NOW + SECOND) == []
        assert [await look(backend, job_id) for job_id in ids] == before

    async def test_a_retry_sent_again_finds_nothing_to_do(self, backend: Backend) -> None:
        job_id = await put_ended(backend, State.FAILED)
        await backend.retry(only(job_id), now=NOW)
        after = await look(backend, job_id)
        await backend.retry(only(job_id), now=NOW + SECOND)
        assert await look(backend, job_id) == after

    async def test_jobs_are_retried_a_batch_at_a_time(self, backend: Backend) -> None:
        await put_many(backend, 700)
        await settle(backend, await take_all(backend, await join(backend)), End.DISCARD)
        target = JobFilter(states=frozenset({State.DISCARDED}))
        assert [len(await backend.retry(target, now=NOW)) for _ in range(3)] == [500, 200, 0]

    async def test_waiting_and_ended_jobs_can_be_deleted(self, backend: Backend) -> None:
        ids = [await put_ended(backend, state) for state in sorted(TERMINAL)]
        ids += [await put(backend), await put(backend, delay=HOUR)]
        assert sorted(await backend.delete(only(*ids))) == sorted(ids)
        assert [await backend.get(job_id) for job_id in ids] == [None] * 6
        assert await backend.delete(only(*ids)) == []
        assert await take(backend, await join(backend), limit=10, now=NOW + DAY) == ()

    async def test_a_running_job_is_never_deleted(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        waiting = await put(backend)
        assert await backend.delete(JobFilter()) == [waiting]
        assert await settle(backend, [job]) == [Settled(id=job.id, state=State.COMPLETED)]

    async def test_jobs_are_deleted_a_batch_at_a_time(self, backend: Backend) -> None:
        await put_many(backend, 700)
        assert [len(await backend.delete(JobFilter())) for _ in range(3)] == [500, 200, 0]
        assert await every_job(backend) == []

    async def test_a_paused_queue_gives_no_jobs(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend)
        other = await put(backend, queue="other")
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        claim = await backend.claim(QUEUE, limit=1, slots=1, node=node, token=new_token(), now=NOW)
        assert claim == Claim(jobs=())
        assert [job.id for job in await take(backend, node, queue="other")] == [other]

    async def test_a_resumed_queue_gives_its_jobs(self, backend: Backend) -> None:
        node = await join(backend)
        job_id = await put(backend)
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        await backend.put_queue(QueueSettings(name=QUEUE))
        assert [job.id for job in await take(backend, node)] == [job_id]
        assert (await backend.beat(node, now=NOW)).paused == frozenset()
        assert [settings for settings in await backend.queues() if settings.paused_at is not None] == []

    async def test_a_pause_is_part_of_each_answer_about_the_queue(self, backend: Backend) -> None:
        node = await join(backend)
        paused_at = NOW + timedelta(microseconds=5)
        await backend.put_queue(QueueSettings(name="empty", paused_at=paused_at))
        assert (await backend.beat(node, now=NOW)).paused == {"empty"}
        assert await backend.queues() == [QueueSettings(name="empty", paused_at=paused_at)]
        assert (await backend.statistics(now=NOW)).queues["empty"].paused_at == paused_at

    async def test_a_second_pause_of_a_queue_keeps_the_time_of_the_first(self, backend: Backend) -> None:
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW + HOUR))
        assert await backend.queues() == [QueueSettings(name=QUEUE, paused_at=NOW)]
        await backend.put_queue(QueueSettings(name=QUEUE))
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW + 2 * HOUR))
        assert await backend.queues() == [QueueSettings(name=QUEUE, paused_at=NOW + 2 * HOUR)]

    async def test_promotion_goes_on_in_a_paused_queue(self, backend: Backend) -> None:
        job_id = await put(backend, delay=MINUTE)
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        assert (await backend.promote(now=NOW + HOUR)).count == 1
        assert await state_of(backend, job_id) is State.PENDING

    async def test_jobs_of_a_paused_queue_can_be_given_back_and_settled(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 2)
        running, held = await take(backend, node, limit=2, slots=1)
        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        await settle(backend, [running])
        await settle(backend, [held], End.RELEASE)
        assert await states_of(backend, [running.id, held.id]) == [State.COMPLETED, State.PENDING]
