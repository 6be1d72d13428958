"""Conformance: claiming jobs, settling and reporting attempts, and the nodes that do it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from deeper_tasks.backends.protocol import MAX_BATCH, Backend, Claim, QueueSettings
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import (
    MAX_KEPT_ERRORS,
    MAX_KEPT_LOG_LINES,
    AttemptError,
    ErrorReport,
    JobOptions,
    Progress,
)
from deeper_tasks.domain.settlement import End, Report, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import NodeLostError
from deeper_tasks.testing.conformance.scene import (
    BOOM,
    HOUR,
    MINUTE,
    NOW,
    QUEUE,
    SECOND,
    join,
    look,
    new_id,
    new_node,
    new_token,
    node_record,
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


class ClaimConformance:
    """What holds for `claim`."""

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

    async def test_only_the_first_slots_of_a_claim_count_as_started(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 4)
        jobs = await take(backend, node, limit=4, slots=2)
        assert [job.has_started for job in jobs] == [True, True, False, False]
        started = [(await look(backend, job.id)).attempted_at for job in jobs]
        assert started == [NOW, NOW, None, None]

    async def test_a_claim_takes_from_its_own_queue_only(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend, queue="one")
        two = await put(backend, queue="two")
        assert [job.id for job in await take(backend, node, queue="two", limit=10)] == [two]
        assert await take(backend, node, queue="three", limit=10) == ()

    async def test_a_claim_that_finds_nothing_says_so_at_once(self, backend: Backend) -> None:
        node = await join(backend)
        claim = await backend.claim(QUEUE, limit=5, slots=5, node=node, token=new_token(), now=NOW)
        assert claim == Claim(jobs=(), is_paused=False)

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
            await take(backend, NodeId("nobody"))
        assert await state_of(backend, job_id) is State.PENDING

    async def test_a_claim_takes_no_more_than_a_batch(self, backend: Backend) -> None:
        node = await join(backend)
        ids = await put_many(backend, 1200)
        batches = [await take(backend, node, limit=2000) for _ in range(4)]
        assert [len(jobs) for jobs in batches] == [MAX_BATCH, MAX_BATCH, 200, 0]
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


class SettleConformance:
    """What holds for `settle` and `report`."""

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

    async def test_the_store_keeps_since_when_no_worker_knew_the_task(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend)
        seen = []
        for minute in range(3):
            [job] = await take(backend, node, now=NOW + minute * MINUTE)
            seen.append(job.unknown_since)
            await settle(backend, [job], End.RELEASE, is_task_unknown=True, now=NOW + minute * MINUTE)
        assert seen == [None, NOW, NOW]

    async def test_a_task_that_was_known_since_is_no_longer_unknown(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend)
        await settle(backend, await take(backend, node), End.RELEASE, is_task_unknown=True)
        await settle(backend, await take(backend, node), End.RETRY, error=BOOM)
        await backend.promote(now=NOW)
        [job] = await take(backend, node)
        assert job.unknown_since is None

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
        await put_many(backend, MAX_BATCH)
        jobs = await take(backend, node, limit=MAX_BATCH)
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

    async def test_a_report_of_a_start_sets_its_time(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), is_started=False)
        report = Report(id=job.id, token=job.token, has_started=True)
        assert await backend.report([report], now=NOW + SECOND) == [job.id]
        assert (await look(backend, job.id)).attempted_at == NOW + SECOND

    async def test_a_report_without_a_start_leaves_the_job_unstarted(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), is_started=False)
        await backend.report([Report(id=job.id, token=job.token, lines=("waiting",))], now=NOW + SECOND)
        assert (await look(backend, job.id)).attempted_at is None

    async def test_a_report_keeps_the_last_progress_and_adds_lines_to_the_log(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        half = Progress(fraction=0.5, message="half")
        await backend.report([Report(id=job.id, token=job.token, progress=half, lines=("one", "zwölf"))], now=NOW)
        await backend.report([Report(id=job.id, token=job.token, lines=("three",))], now=NOW)
        running = await look(backend, job.id)
        assert (running.progress, running.log) == (half, ("one", "zwölf", "three"))

    async def test_only_the_newest_lines_of_a_log_are_kept(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        lines = tuple(f"line {index}" for index in range(MAX_KEPT_LOG_LINES + 7))
        await backend.report([Report(id=job.id, token=job.token, lines=lines[:100])], now=NOW)
        await backend.report([Report(id=job.id, token=job.token, lines=lines[100:])], now=NOW)
        assert (await look(backend, job.id)).log == lines[7:]

    async def test_a_report_whose_token_holds_no_more_is_left_out(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 3)
        jobs = await take(backend, node, limit=3)
        await settle(backend, [jobs[1]])
        reports = [Report(id=job.id, token=job.token, lines=("late",)) for job in jobs]
        reports[2] = replace(reports[2], token=new_token())
        assert await backend.report(reports, now=NOW) == [jobs[0].id]
        assert [(await look(backend, job.id)).log for job in jobs] == [("late",), (), ()]


class NodeConformance:
    """What holds for `register`, `deregister` and `beat`."""

    async def test_a_registered_node_is_known_with_all_it_said(self, backend: Backend) -> None:
        node = new_node()
        await backend.register(node, now=NOW)
        record = await node_record(backend, node.id)
        assert record.node == node
        assert (record.registered_at, record.beat_at, record.busy, record.is_lost) == (NOW, NOW, 0, False)

    async def test_registering_a_node_again_changes_nothing(self, backend: Backend) -> None:
        node = new_node()
        await backend.register(node, now=NOW)
        await backend.beat(node.id, busy=3, now=NOW + SECOND)
        before = await node_record(backend, node.id)
        await backend.register(node, now=NOW + MINUTE)
        assert await node_record(backend, node.id) == before

    async def test_a_beat_is_counted_with_its_time_and_load(self, backend: Backend) -> None:
        node = await join(backend)
        before = await node_record(backend, node)
        await backend.beat(node, busy=3, now=NOW + SECOND)
        await backend.beat(node, busy=4, now=NOW + 2 * SECOND)
        after = await node_record(backend, node)
        assert (after.beat - before.beat, after.busy, after.beat_at) == (2, 4, NOW + 2 * SECOND)

    async def test_a_beat_returns_the_jobs_that_the_store_thinks_the_node_runs(self, backend: Backend) -> None:
        node, other = await join(backend), await join(backend)
        await put_many(backend, 4)
        mine = [*await take(backend, node, limit=2, slots=1), *await take(backend, node)]
        await take(backend, other)
        await settle(backend, [mine[0]])
        beat = await backend.beat(node, now=NOW)
        assert beat.held == {job.id: job.token for job in mine[1:]}
        assert beat.cancels == {}

    async def test_every_beat_returns_a_requested_cancel_until_the_job_ends(self, backend: Backend) -> None:
        node, other = await join(backend), await join(backend)
        job = await put_running(backend, node)
        await put_running(backend, other)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        assert (await backend.beat(node, now=NOW)).cancels == {job.id: "enough"}
        assert (await backend.beat(node, now=NOW)).cancels == {job.id: "enough"}
        assert (await backend.beat(other, now=NOW)).cancels == {}
        await settle(backend, [job], End.CANCEL)
        assert (await backend.beat(node, now=NOW)).cancels == {}

    async def test_a_beat_of_a_node_that_never_registered_is_refused(self, backend: Backend) -> None:
        with pytest.raises(NodeLostError):
            await backend.beat(NodeId("nobody"), now=NOW)

    async def test_a_node_that_stopped_in_order_is_gone(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job])
        await backend.deregister(node)
        assert await backend.nodes() == []
        with pytest.raises(NodeLostError):
            await backend.beat(node, now=NOW)

    async def test_a_node_that_still_holds_jobs_is_left_to_be_rescued(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await backend.deregister(node)
        assert [record.node.id for record in await backend.nodes()] == [node]
        assert [settled.id for settled in await rescue_all(backend, node)] == [job.id]
        assert await backend.nodes() == []

    async def test_removing_an_unknown_node_does_nothing(self, backend: Backend) -> None:
        node = await join(backend)
        await backend.deregister(NodeId("nobody"))
        assert [record.node.id for record in await backend.nodes()] == [node]

    async def test_a_job_of_an_unknown_id_is_no_job(self, backend: Backend) -> None:
        assert await backend.get(JobId("00000000-0000-7000-8000-000000000000")) is None
