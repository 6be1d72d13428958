"""Conformance: the role of progress, and of telling which claimed jobs have started."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend, HeldJobs, JobFilter, JobQuery
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import MAX_KEPT_LOG_LINES, Progress
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import End, MovedJob, Report, Settled
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    MINUTE,
    NOW,
    ODD,
    SECOND,
    join,
    look,
    lose,
    new_token,
    node_record,
    put,
    put_many,
    put_running,
    rescue_all,
    settle,
    take,
    take_again,
)


class ReportConformance:
    """The contract of `report`, and of claims after it."""

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

    async def test_a_claim_forgets_the_progress_of_the_attempt_before(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await backend.report([Report(id=job.id, token=job.token, progress=Progress(fraction=0.5))])
        await settle(backend, [job], End.RETRY, error=BOOM)
        assert (await look(backend, job.id)).progress == Progress(fraction=0.5)
        await backend.promote(now=NOW)
        await take(backend, node)
        assert (await look(backend, job.id)).progress is None

    async def test_progress_and_lines_may_hold_any_character(self, backend: Backend) -> None:
        node = await join(backend)
        jobs = [await put_running(backend, node) for _ in range(2)]
        news = Report(
            id=jobs[0].id, token=jobs[0].token, progress=Progress(fraction=0.5, message=ODD), lines=(ODD, ODD)
        )
        neighbours = Report(id=jobs[1].id, token=jobs[1].token, lines=("plain",))
        assert await backend.report([news, neighbours], now=NOW) == [job.id for job in jobs]
        first, second = [await look(backend, job.id) for job in jobs]
        assert first.progress is not None
        assert {*first.log, first.progress.message} <= {ODD, ODD.replace("\0", "\N{REPLACEMENT CHARACTER}")}
        assert second.log == ("plain",)

    async def test_a_report_after_the_end_of_its_attempt_changes_no_answer(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        settled = await settle(backend, [job], End.RETRY, error=BOOM)
        late = Report(id=job.id, token=job.token, has_started=True, lines=("late",))
        ended = await look(backend, job.id)
        assert await backend.report([late], now=NOW) == []
        assert await look(backend, job.id) == ended
        assert await settle(backend, [job], End.RETRY, error=BOOM) == settled


class StartsConformance:
    """
    The contract of jobs that a worker claims ahead: they start when a report says so.

    A store without the role of progress counts each job as started when it hands it out.
    """

    async def test_only_the_first_slots_of_a_claim_count_as_started(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 4)
        jobs = await take(backend, node, limit=4, slots=2)
        assert [job.has_started for job in jobs] == [True, True, False, False]
        started = [(await look(backend, job.id)).attempted_at for job in jobs]
        assert started == [NOW, NOW, None, None]

    async def test_a_last_attempt_that_was_never_started_is_given_back(self, backend: Backend) -> None:
        dead, node = await join(backend), await join(backend)
        job = await put_running(backend, dead, max_attempts=1, is_started=False)
        assert await rescue_all(backend, dead) == [Settled(id=job.id, state=State.PENDING)]
        assert (await look(backend, job.id)).attempt == 0
        [again] = await take(backend, node)
        assert (again.attempt, again.is_last_attempt) == (1, True)

    async def test_a_first_attempt_of_several_that_was_never_started_is_used_up(self, backend: Backend) -> None:
        dead = await join(backend)
        job = await put_running(backend, dead, max_attempts=2, is_started=False)
        assert await rescue_all(backend, dead) == [Settled(id=job.id, state=State.PENDING)]
        assert (await look(backend, job.id)).attempt == 1

    async def test_a_last_attempt_whose_start_was_reported_is_discarded(self, backend: Backend) -> None:
        dead = await join(backend)
        job = await put_running(backend, dead, max_attempts=1, is_started=False)
        await backend.report([Report(id=job.id, token=job.token, has_started=True)], now=NOW)
        assert await rescue_all(backend, dead) == [Settled(id=job.id, state=State.DISCARDED)]

    async def test_statistics_tell_what_each_node_holds_and_what_of_it_has_begun(self, backend: Backend) -> None:
        one, two = await join(backend), await join(backend)
        await put_many(backend, 9)
        await put_many(backend, 2, queue="other")
        first = await take(backend, one, limit=5, slots=2)
        await take(backend, one, limit=1, slots=0, queue="other")
        await take(backend, two, limit=4)
        await backend.report([Report(id=first[2].id, token=first[2].token, has_started=True)], now=NOW)
        await settle(backend, first[:1])
        held = {
            (each.node, each.queue): (each.claimed, each.begun) for each in (await backend.statistics(now=NOW)).held
        }
        assert held == {(one, "default"): (4, 2), (one, "other"): (1, 0), (two, "default"): (4, 4)}

    async def test_the_service_of_a_queue_counts_the_held_jobs_that_have_started(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 3)
        await take(backend, node, limit=2, slots=1)
        service = await backend.service("default", task="shop.send", now=NOW)
        assert service.held == (HeldJobs(node=node, queue="default", claimed=2, begun=1),)

    async def test_a_rescue_tells_of_an_attempt_that_was_given_back_without_an_error(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, max_attempts=1, is_started=False)
        beat = (await node_record(backend, node)).beat
        [moved] = (await backend.rescue(node, beat=beat, now=NOW)).jobs
        assert moved == MovedJob(id=job.id, task=job.task, queue=job.queue, state=State.PENDING, attempt=1)

    async def test_a_filter_finds_started_jobs_and_none_that_waits_in_its_worker(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 5)
        jobs = await take(backend, node, limit=4, slots=2)
        await settle(backend, jobs[:1])
        await put(backend, delay=MINUTE)
        completed, running = jobs[0].id, jobs[1].id
        assert await _begun(backend) == {completed, running}
        assert await _begun(backend, State.RUNNING) == {running}
        asked = await backend.cancel(
            JobFilter(has_begun=True, states=frozenset({State.RUNNING})), reason="enough", now=NOW
        )
        assert [job.id for job in asked] == [running]

    async def test_only_the_first_slots_of_a_claim_by_a_pattern_count_as_started(self, backend: Backend) -> None:
        node = await join(backend)
        for queue in ("tenant-a", "tenant-a", "tenant-b"):
            await put(backend, queue=queue)
        jobs = await take(backend, node, queue=QueuePattern(prefix="tenant-"), limit=3, slots=2)
        assert [(job.queue, job.has_started) for job in jobs] == [
            ("tenant-a", True),
            ("tenant-b", True),
            ("tenant-a", False),
        ]
        assert [(await look(backend, job.id)).attempted_at for job in jobs] == [NOW, NOW, None]


class QuarantinedStartsConformance:
    """The contract of starts and quarantine together: a job in quarantine starts when a report says so."""

    async def test_a_job_that_keeps_killing_its_worker_ends_discarded(self, backend: Backend) -> None:
        job_id = await put(backend, max_attempts=3)
        for _ in range(3):
            node = await join(backend)
            [job] = await take(backend, node)
            await backend.report([Report(id=job.id, token=job.token, has_started=True)], now=NOW)
            await rescue_all(backend, node)
        ended = await look(backend, job_id)
        assert (ended.state, ended.attempt, len(ended.errors)) == (State.DISCARDED, 3, 3)

    async def test_a_job_whose_start_was_reported_is_quarantined_when_it_is_lost(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node, is_started=False)
        await backend.report([Report(id=job.id, token=job.token, has_started=True)], now=NOW)
        await rescue_all(backend, node)
        assert (await take_again(backend, await join(backend))).is_quarantined

    @pytest.mark.parametrize("max_attempts", [1, 2])
    async def test_a_job_that_only_waited_in_its_lost_worker_is_not_quarantined(
        self, backend: Backend, max_attempts: int
    ) -> None:
        node = await join(backend)
        await put_running(backend, node, is_started=False, max_attempts=max_attempts)
        await rescue_all(backend, node)
        assert not (await take_again(backend, await join(backend))).is_quarantined

    @pytest.mark.parametrize("max_attempts", [2, 3])
    @pytest.mark.parametrize("has_started", [True, False])
    async def test_a_claim_of_a_job_in_quarantine_is_no_start_until_a_report_says_so(
        self,
        backend: Backend,
        has_started: bool,  # noqa: FBT001
        max_attempts: int,
    ) -> None:
        await lose(backend, await put(backend, max_attempts=max_attempts))
        node = await join(backend)
        [job] = await take(backend, node)
        assert not job.has_started
        assert (await look(backend, job.id)).attempted_at is None
        assert await take(backend, node, token=job.token) == (job,)
        if has_started:
            await backend.report([Report(id=job.id, token=job.token, has_started=True)], now=NOW)
        state = State.DISCARDED if has_started and max_attempts == 2 else State.PENDING
        assert await rescue_all(backend, node) == [Settled(id=job.id, state=state)]
        after = await look(backend, job.id)
        assert (after.attempt, len(after.errors)) == ((2, 2) if has_started else (1, 1))


async def _begun(backend: Backend, *states: State) -> set[JobId]:
    query = JobQuery(filter=JobFilter(has_begun=True, states=frozenset(states) or None))
    return {job.id for job in (await backend.find(query)).jobs}
