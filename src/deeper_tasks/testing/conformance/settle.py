"""Conformance: settling attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.job import (
    MAX_KEPT_ERRORS,
    AttemptError,
    ErrorReport,
)
from deeper_tasks.domain.settlement import End, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    HOUR,
    MINUTE,
    NOW,
    ODD,
    SECOND,
    join,
    look,
    new_id,
    new_token,
    only,
    put,
    put_many,
    put_running,
    rescue_all,
    settle,
    settlement,
    state_of,
    states_of,
    take,
)


class SettleConformance:
    """The contract of `settle`."""

    @pytest.mark.parametrize(
        ("end", "state"),
        [
            (End.COMPLETE, State.COMPLETED),
            (End.RETRY, State.RETRYABLE),
            (End.SNOOZE, State.SCHEDULED),
            (End.RELEASE, State.PENDING),
            (End.FAIL, State.FAILED),
            (End.DISCARD, State.DISCARDED),
            (End.CANCEL, State.CANCELLED),
        ],
    )
    async def test_each_end_leads_to_its_state_and_drops_the_claim(
        self, backend: Backend, end: End, state: State
    ) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        assert await settle(backend, [job], end, now=NOW + SECOND) == [Settled(id=job.id, state=state)]
        ended = await look(backend, job.id)
        assert ended.state is state
        assert ended.finished_at == (NOW + SECOND if state.is_terminal else None)
        assert (await backend.beat(node, now=NOW)).held == {}

    async def test_a_completed_job_keeps_its_result_as_it_was_sent(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job], result='{"a":  [1.0, "ü"]}', ran_for=SECOND)
        ended = await look(backend, job.id)
        assert (ended.result, ended.result_omitted) == ('{"a":  [1.0, "ü"]}', None)

    async def test_a_completed_job_can_say_why_it_has_no_result(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job], result_omitted="not JSON", ran_for=SECOND)
        ended = await look(backend, job.id)
        assert (ended.result, ended.result_omitted) == (None, "not JSON")

    @pytest.mark.parametrize("end", [End.RETRY, End.FAIL, End.DISCARD, End.CANCEL])
    async def test_an_error_is_kept_with_its_attempt_and_the_store_s_time(self, backend: Backend, end: End) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job], end, error=BOOM, now=NOW + SECOND, ran_for=SECOND)
        assert (await look(backend, job.id)).errors == (
            AttemptError(attempt=1, at=NOW + SECOND, kind="ValueError", message="boom", traceback="Traceback: boom"),
        )

    async def test_errors_are_kept_oldest_first_and_only_the_newest(self, backend: Backend) -> None:
        node = await join(backend)
        job_id = await put(backend, max_attempts=1000)
        number = MAX_KEPT_ERRORS + 3
        for index in range(number):
            [job] = await take(backend, node)
            error = ErrorReport(kind="E", message=str(index))
            await settle(backend, [job], End.RETRY, error=error)
            await backend.promote(now=NOW)
        errors = (await look(backend, job_id)).errors
        assert [error.message for error in errors] == [str(index) for index in range(3, number)]
        assert [error.attempt for error in errors] == list(range(4, number + 1))

    @pytest.mark.parametrize("delay", [timedelta(0), MINUTE])
    async def test_a_retry_and_a_snooze_are_due_a_delay_after_the_settle(
        self, backend: Backend, delay: timedelta
    ) -> None:
        node = await join(backend)
        for end in (End.RETRY, End.SNOOZE):
            job = await put_running(backend, node)
            await settle(backend, [job], end, delay=delay, now=NOW + SECOND)
            assert (await look(backend, job.id)).scheduled_at == NOW + SECOND + delay

    async def test_a_released_job_can_be_claimed_at_once(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job], End.RELEASE)
        [again] = await take(backend, node)
        assert (again.id, again.attempt) == (job.id, 1)
        assert again.token != job.token

    async def test_a_released_job_keeps_its_place_in_the_line(self, backend: Backend) -> None:
        node = await join(backend)
        early = await put(backend)
        [job] = await take(backend, node)
        later = await put(backend, now=NOW + SECOND)
        await settle(backend, [job], End.RELEASE, now=NOW + MINUTE)
        assert (await look(backend, early)).scheduled_at == NOW
        assert [job.id for job in await take(backend, node, limit=2, now=NOW + MINUTE)] == [early, later]

    async def test_a_release_with_a_delay_is_scheduled(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        settled = await settle(backend, [job], End.RELEASE, delay=MINUTE)
        assert settled == [Settled(id=job.id, state=State.SCHEDULED)]
        assert (await look(backend, job.id)).scheduled_at == NOW + MINUTE

    @pytest.mark.parametrize("end", [End.SNOOZE, End.RELEASE])
    async def test_a_snooze_or_release_takes_the_attempt_back(self, backend: Backend, end: End) -> None:
        node = await join(backend)
        job_id = await put(backend, max_attempts=1)
        for _ in range(5):
            [job] = await take(backend, node)
            assert job.attempt == 1
            assert job.is_last_attempt
            await settle(backend, [job], end)
            assert (await look(backend, job_id)).attempt == 0
            await backend.promote(now=NOW)

    async def test_the_running_time_tells_when_an_attempt_started(self, backend: Backend) -> None:
        node = await join(backend)
        for end in (End.COMPLETE, End.RETRY, End.FAIL):
            job = await put_running(backend, node, is_started=False)
            await settle(backend, [job], end, ran_for=10 * SECOND, now=NOW + MINUTE)
            assert (await look(backend, job.id)).attempted_at == NOW + 50 * SECOND

    async def test_a_settle_with_another_token_is_refused_and_its_neighbours_are_accepted(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        await put_many(backend, 3)
        jobs = await take(backend, node, limit=3)
        sent = [
            settlement(jobs[0]),
            replace(settlement(jobs[1]), token=new_token()),
            Settlement(id=new_id(), token=jobs[0].token, end=End.COMPLETE),
            settlement(jobs[2]),
        ]
        settled = await backend.settle(sent, now=NOW)
        assert sorted(one.id for one in settled) == sorted([jobs[0].id, jobs[2].id])
        assert await states_of(backend, [job.id for job in jobs]) == [
            State.COMPLETED,
            State.RUNNING,
            State.COMPLETED,
        ]

    async def test_a_worker_that_lost_its_job_to_another_cannot_end_it(self, backend: Backend) -> None:
        stale, node = await join(backend, "stale"), await join(backend, "fresh")
        lost = await put_running(backend, stale)
        await rescue_all(backend, stale)
        assert await settle(backend, [lost]) == []
        [taken] = await take(backend, node)
        assert await settle(backend, [lost], End.FAIL, error=BOOM) == []
        running = await look(backend, lost.id)
        assert (running.state, running.node, running.attempt) == (State.RUNNING, node, 2)
        assert await settle(backend, [taken]) == [Settled(id=lost.id, state=State.COMPLETED)]
        assert await settle(backend, [lost], End.FAIL) == []
        assert await state_of(backend, lost.id) is State.COMPLETED

    async def test_the_end_of_a_deleted_job_is_refused(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job])
        await backend.delete(only(job.id))
        assert await settle(backend, [job]) == []

    @pytest.mark.parametrize("end", list(End))
    async def test_the_same_settlement_again_is_accepted_again_and_changes_nothing(
        self, backend: Backend, end: End
    ) -> None:
        job = await put_running(backend, await join(backend))
        sent = [settlement(job, end, error=BOOM, delay=MINUTE, result="1", ran_for=SECOND)]
        settled = await backend.settle(sent, now=NOW + SECOND)
        after = await look(backend, job.id)
        assert await backend.settle(sent, now=NOW + HOUR) == settled
        assert await look(backend, job.id) == after

    async def test_a_token_settles_once_even_when_another_end_is_sent(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job], result="1", ran_for=SECOND)
        after = await look(backend, job.id)
        await settle(backend, [job], End.FAIL, error=BOOM)
        assert await look(backend, job.id) == after

    async def test_a_settlement_twice_in_one_call_counts_once(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job, job], End.SNOOZE, error=BOOM, delay=MINUTE)
        after = await look(backend, job.id)
        assert (after.attempt, len(after.errors)) == (0, 1)

    async def test_settling_nothing_accepts_nothing(self, backend: Backend) -> None:
        assert await backend.settle([], now=NOW) == []

    async def test_a_whole_batch_of_all_ends_is_settled_in_one_call(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, backend.capabilities.max_batch)
        jobs = await take(backend, node, limit=backend.capabilities.max_batch)
        ends = list(End)
        sent = [settlement(job, ends[index % len(ends)], delay=MINUTE) for index, job in enumerate(jobs)]
        settled = await backend.settle(sent, now=NOW)
        assert sorted(one.id for one in settled) == sorted(job.id for job in jobs)
        assert (await backend.beat(node, now=NOW)).held == {}

    @pytest.mark.parametrize("end", list(End))
    async def test_where_a_cancel_was_requested_only_a_completion_is_not_cancelled(
        self, backend: Backend, end: End
    ) -> None:
        job = await put_running(backend, await join(backend))
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        state = State.COMPLETED if end is End.COMPLETE else State.CANCELLED
        settled = await settle(backend, [job], end, delay=MINUTE, error=BOOM, result="1", now=NOW + SECOND)
        assert settled == [Settled(id=job.id, state=state)]
        ended = await look(backend, job.id)
        assert (ended.state, ended.finished_at, ended.cancel_requested) == (state, NOW + SECOND, "enough")

    @pytest.mark.parametrize("end", [End.RETRY, End.CANCEL])
    async def test_text_may_hold_any_character_and_a_zero_byte_no_more_than_a_sign_that_there_was_one(
        self, backend: Backend, end: End
    ) -> None:
        node = await join(backend)
        jobs = [await put_running(backend, node) for _ in range(2)]
        error = ErrorReport(kind=ODD, message=ODD, traceback=ODD)
        ends = [settlement(jobs[0], end, error=error), settlement(jobs[1], result_omitted=ODD, ran_for=SECOND)]
        assert len(await backend.settle(ends, now=NOW)) == len(ends)
        failed, completed = [await look(backend, job.id) for job in jobs]
        kept = failed.errors[0]
        texts = (kept.kind, kept.message, kept.traceback, completed.result_omitted)
        assert set(texts) <= {ODD, ODD.replace("\0", "\N{REPLACEMENT CHARACTER}")}
