"""Conformance: promoting, rescuing, expiring and pruning."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deeper_tasks.backends.protocol import SILENT_NODES_KEPT, Backend, Promotion, Rescue, Retention
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED
from deeper_tasks.domain.settlement import End, Settled, worker_lost
from deeper_tasks.domain.state import State
from deeper_tasks.errors import NodeLostError
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    every_job,
    join,
    look,
    node_record,
    only,
    put,
    put_ended,
    put_many,
    put_running,
    rescue_all,
    settle,
    state_of,
    states_in,
    states_of,
    take,
    take_all,
)

NOTHING = Rescue(jobs=(), queues=frozenset(), is_finished=True)


class MaintenanceConformance:
    """The contract of `promote`, `rescue`, `expire` and `prune`."""

    async def test_a_promotion_without_waiting_jobs_finds_nothing(self, backend: Backend) -> None:
        await put(backend)
        assert await backend.promote(now=NOW) == Promotion(count=0, queues=frozenset(), next_due_in=None)

    async def test_jobs_that_are_due_become_pending_and_others_wait(self, backend: Backend) -> None:
        node = await join(backend)
        tried = await put_running(backend, node, queue="retries")
        await settle(backend, [tried], End.RETRY, delay=MINUTE)
        snoozed = await put_running(backend, node, queue="retries")
        await settle(backend, [snoozed], End.SNOOZE, delay=MINUTE)
        scheduled = await put(backend, delay=MINUTE)
        later = await put(backend, queue="later", delay=HOUR)
        before = await backend.promote(now=NOW + 59 * SECOND)
        assert before == Promotion(count=0, queues=frozenset(), next_due_in=SECOND)
        after = await backend.promote(now=NOW + MINUTE)
        assert after == Promotion(count=3, queues=frozenset({"retries", "default"}), next_due_in=HOUR - MINUTE)
        assert await states_of(backend, [tried.id, snoozed.id, scheduled]) == [State.PENDING] * 3
        assert await state_of(backend, later) is State.SCHEDULED

    async def test_a_promoted_job_keeps_its_due_time(self, backend: Backend) -> None:
        job_id = await put(backend, delay=MINUTE)
        await backend.promote(now=NOW + HOUR)
        assert (await look(backend, job_id)).scheduled_at == NOW + MINUTE

    async def test_the_longest_due_are_promoted_first_a_batch_at_a_time(self, backend: Backend) -> None:
        late = await put_many(backend, 300, delay=2 * MINUTE)
        early = await put_many(backend, 900, delay=MINUTE)
        first = await backend.promote(now=NOW + HOUR)
        assert first.count == backend.capabilities.max_batch
        assert first.next_due_in is not None
        assert first.next_due_in <= timedelta(0)
        second = await backend.promote(now=NOW + HOUR)
        assert second.count == backend.capabilities.max_batch
        assert set(await states_of(backend, early)) == {State.PENDING}
        third = await backend.promote(now=NOW + HOUR)
        assert third == Promotion(count=200, queues=frozenset({"default"}), next_due_in=None)
        assert set(await states_of(backend, late)) == {State.PENDING}

    async def test_a_cancelled_or_deleted_job_is_not_waited_for(self, backend: Backend) -> None:
        cancelled = await put(backend, delay=MINUTE)
        deleted = await put(backend, delay=MINUTE)
        await put(backend, delay=HOUR)
        await backend.cancel(only(cancelled), reason="enough", now=NOW)
        await backend.delete(only(deleted))
        promotion = await backend.promote(now=NOW + MINUTE)
        assert (promotion.count, promotion.next_due_in) == (0, HOUR - MINUTE)

    async def test_pending_and_retryable_jobs_past_their_expiry_fail(self, backend: Backend) -> None:
        node = await join(backend)
        tried = await put_running(backend, node, expires_in=MINUTE)
        await settle(backend, [tried], End.RETRY, delay=HOUR, error=BOOM)
        pending = await put(backend, expires_in=MINUTE)
        spared = [await put(backend, expires_in=DAY), await put(backend), await put(backend, delay=DAY)]
        expired = await backend.expire(now=NOW + HOUR)
        assert {settled.id for settled in expired} == {tried.id, pending}
        assert {settled.state for settled in expired} == {State.FAILED}
        failed = await look(backend, pending)
        assert (failed.state, failed.finished_at) == (State.FAILED, NOW + HOUR)
        assert set(await states_of(backend, spared)) == {State.PENDING, State.SCHEDULED}
        assert await backend.expire(now=NOW + HOUR) == []

    async def test_an_expired_job_says_so_in_its_errors(self, backend: Backend) -> None:
        job_id = await put(backend, expires_in=MINUTE)
        await backend.expire(now=NOW + HOUR)
        assert (await look(backend, job_id)).errors == (EXPIRED.kept(attempt=0, at=NOW + HOUR),)

    async def test_expiry_never_stops_a_running_job(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), expires_in=MINUTE)
        assert await backend.expire(now=NOW + HOUR) == []
        assert await settle(backend, [job], now=NOW + HOUR) == [Settled(id=job.id, state=State.COMPLETED)]

    async def test_a_snoozed_job_past_its_expiry_fails_once_it_is_due(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), expires_in=MINUTE)
        await settle(backend, [job], End.SNOOZE, delay=HOUR)
        assert await backend.expire(now=NOW + 30 * MINUTE) == []
        await backend.promote(now=NOW + HOUR)
        assert states_in(await backend.expire(now=NOW + HOUR)) == [Settled(id=job.id, state=State.FAILED)]

    async def test_jobs_expire_a_batch_at_a_time(self, backend: Backend) -> None:
        await put_many(backend, 700, expires_in=MINUTE)
        assert [len(await backend.expire(now=NOW + HOUR)) for _ in range(3)] == [500, 200, 0]

    async def test_a_rescued_job_is_pending_again_and_has_used_an_attempt(self, backend: Backend) -> None:
        dead, node = await join(backend), await join(backend)
        job = await put_running(backend, dead, queue="q")
        rescue = await backend.rescue(dead, beat=(await node_record(backend, dead)).beat, now=NOW + SECOND)
        assert states_in(rescue.jobs) == [Settled(id=job.id, state=State.PENDING)]
        assert (rescue.queues, rescue.is_finished) == (frozenset({"q"}), True)
        rescued = await look(backend, job.id)
        assert (rescued.state, rescued.attempt, rescued.node) == (State.PENDING, 1, None)
        assert rescued.errors == (worker_lost(dead).kept(attempt=1, at=NOW + SECOND),)
        [again] = await take(backend, node, queue="q")
        assert again.attempt == 2

    async def test_a_rescue_names_the_queues_that_have_new_pending_jobs_and_no_others(self, backend: Backend) -> None:
        dead = await join(backend)
        await put_running(backend, dead, queue="again")
        await put_running(backend, dead, queue="discarded", max_attempts=1)
        cancelled = await put_running(backend, dead, queue="cancelled")
        await backend.cancel(only(cancelled.id), reason="enough", now=NOW)
        rescue = await backend.rescue(dead, beat=(await node_record(backend, dead)).beat, now=NOW)
        assert len(rescue.jobs) == 3
        assert rescue.queues == {"again"}

    async def test_a_node_that_beat_since_loses_nothing(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        seen = (await node_record(backend, node)).beat
        await backend.beat(node, now=NOW)
        assert await backend.rescue(node, beat=seen, now=NOW) == NOTHING
        assert await state_of(backend, job.id) is State.RUNNING
        assert await settle(backend, [job]) == [Settled(id=job.id, state=State.COMPLETED)]

    async def test_rescuing_an_unknown_node_does_nothing(self, backend: Backend) -> None:
        assert await backend.rescue(NodeId("never registered"), beat=0, now=NOW) == NOTHING

    async def test_a_node_is_removed_when_all_it_held_is_rescued(self, backend: Backend) -> None:
        dead, other = await join(backend), await join(backend)
        await put_running(backend, dead)
        beat = (await node_record(backend, dead)).beat
        await rescue_all(backend, dead)
        assert [record.node.id for record in await backend.nodes()] == [other]
        assert await backend.rescue(dead, beat=beat, now=NOW) == NOTHING

    async def test_an_idle_dead_node_is_removed(self, backend: Backend) -> None:
        dead = await join(backend)
        assert await rescue_all(backend, dead) == []
        assert await backend.nodes() == []

    async def test_a_rescue_leaves_the_jobs_of_others_alone(self, backend: Backend) -> None:
        dead, node = await join(backend), await join(backend)
        kept = await put_running(backend, node)
        lost = await put_running(backend, dead)
        waiting = await put(backend)
        assert [settled.id for settled in await rescue_all(backend, dead)] == [lost.id]
        assert await states_of(backend, [kept.id, waiting]) == [State.RUNNING, State.PENDING]

    async def test_a_started_last_attempt_is_discarded(self, backend: Backend) -> None:
        dead = await join(backend)
        job = await put_running(backend, dead, max_attempts=1)
        assert await rescue_all(backend, dead, now=NOW + SECOND) == [Settled(id=job.id, state=State.DISCARDED)]
        ended = await look(backend, job.id)
        assert (ended.attempt, ended.finished_at) == (1, NOW + SECOND)

    @pytest.mark.parametrize("is_started", [True, False])
    async def test_a_rescued_job_whose_cancel_was_requested_is_cancelled(
        self,
        backend: Backend,
        is_started: bool,  # noqa: FBT001
    ) -> None:
        dead = await join(backend)
        job = await put_running(backend, dead, is_started=is_started)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        assert await rescue_all(backend, dead) == [Settled(id=job.id, state=State.CANCELLED)]
        assert await state_of(backend, job.id) is State.CANCELLED

    async def test_a_lost_node_s_claims_and_beats_are_refused_while_it_is_rescued(self, backend: Backend) -> None:
        dead = await join(backend)
        await put_many(backend, 700)
        jobs = await take_all(backend, dead)
        await put(backend)
        beat = (await node_record(backend, dead)).beat
        first = await backend.rescue(dead, beat=beat, now=NOW)
        assert (len(first.jobs), first.is_finished) == (backend.capabilities.max_batch, False)
        assert (await node_record(backend, dead)).is_lost
        with pytest.raises(NodeLostError):
            await backend.beat(dead, now=NOW)
        with pytest.raises(NodeLostError):
            await take(backend, dead)
        with pytest.raises(NodeLostError):
            await take(backend, dead, limit=backend.capabilities.max_batch, token=jobs[0].token)
        second = await backend.rescue(dead, beat=beat, now=NOW)
        assert (len(second.jobs), second.is_finished) == (200, True)
        assert {job.id for job in (*first.jobs, *second.jobs)} == {job.id for job in jobs}
        assert {job.state for job in await every_job(backend)} == {State.PENDING}

    async def test_a_lost_node_s_settle_counts_for_the_jobs_that_no_rescue_has_reached(self, backend: Backend) -> None:
        dead = await join(backend)
        await put_many(backend, 700)
        jobs = await take_all(backend, dead)
        beat = (await node_record(backend, dead)).beat
        rescued = {job.id for job in (await backend.rescue(dead, beat=beat, now=NOW)).jobs}
        settled = await settle(backend, jobs)
        assert {one.id for one in settled} == {job.id for job in jobs} - rescued
        assert (await backend.rescue(dead, beat=beat, now=NOW)).jobs == ()
        assert await backend.nodes() == []

    async def test_ended_jobs_are_pruned_after_their_retention(self, backend: Backend) -> None:
        completed = await put_ended(backend, State.COMPLETED)
        dead = [await put_ended(backend, state) for state in (State.FAILED, State.DISCARDED, State.CANCELLED)]
        live = [await put(backend), await put(backend, delay=MINUTE)]
        retention = Retention(completed=DAY, failed=3 * DAY)
        assert await backend.prune(retention, now=NOW + DAY - SECOND) == 0
        assert await backend.prune(retention, now=NOW + DAY + SECOND) == 1
        assert await backend.get(completed) is None
        assert await backend.prune(retention, now=NOW + 3 * DAY - SECOND) == 0
        assert await backend.prune(retention, now=NOW + 3 * DAY + SECOND) == 3
        assert [await backend.get(job_id) for job_id in dead] == [None, None, None]
        assert [job.id for job in await every_job(backend, is_descending=False)] == live

    async def test_retention_counts_from_the_end_and_not_from_the_enqueue(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        await settle(backend, [job], now=NOW + DAY)
        assert await backend.prune(Retention(completed=DAY), now=NOW + 2 * DAY - SECOND) == 0
        assert await backend.prune(Retention(completed=DAY), now=NOW + 2 * DAY + SECOND) == 1

    async def test_without_a_retention_ended_jobs_are_kept_for_ever(self, backend: Backend) -> None:
        await put_ended(backend, State.COMPLETED)
        await put_ended(backend, State.FAILED)
        assert await backend.prune(Retention(completed=None, failed=None), now=NOW + 5000 * DAY) == 0

    async def test_a_retried_job_is_not_pruned(self, backend: Backend) -> None:
        job_id = await put_ended(backend, State.FAILED)
        await backend.retry(only(job_id), now=NOW + DAY)
        assert await backend.prune(Retention(failed=DAY), now=NOW + 10 * DAY) == 0
        assert await state_of(backend, job_id) is State.PENDING

    async def test_the_oldest_are_pruned_first_a_batch_at_a_time(self, backend: Backend) -> None:
        node = await join(backend)
        ids = await put_many(backend, 700)
        jobs = await take_all(backend, node)
        await settle(backend, jobs[200:], now=NOW)
        await settle(backend, jobs[:200], now=NOW + SECOND)
        assert await backend.prune(Retention(completed=DAY), now=NOW + 2 * DAY) == backend.capabilities.max_batch
        assert [job.id for job in await every_job(backend, is_descending=False)] == ids[:200]
        assert await backend.prune(Retention(completed=DAY), now=NOW + 2 * DAY) == 200

    async def test_the_oldest_are_pruned_first_whatever_their_states_and_queues(self, backend: Backend) -> None:
        node = await join(backend)
        ends = ((End.COMPLETE, "one"), (End.FAIL, "two"), (End.DISCARD, "one"), (End.COMPLETE, "two"))
        ids: list[JobId] = []
        for number, (end, queue) in enumerate(ends):
            ids += await put_many(backend, 200, queue=queue)
            jobs = await take(backend, node, limit=200, queue=queue)
            await settle(backend, jobs[100:], end, now=NOW + 2 * number * SECOND)
            await settle(backend, jobs[:100], end, now=NOW + (2 * number + 1) * SECOND)
        retention = Retention(completed=DAY, failed=DAY)
        assert await backend.prune(retention, now=NOW + 2 * DAY) == backend.capabilities.max_batch
        # Of those that ended in one moment, those with the first ids; of the third kind the later half is left.
        assert {job.id for job in await every_job(backend)} == {*ids[400:500], *ids[600:]}
        assert await backend.prune(retention, now=NOW + 2 * DAY) == 300

    async def test_of_those_that_ended_at_once_the_first_by_id_are_pruned_first(self, backend: Backend) -> None:
        node = await join(backend)
        ids: list[JobId] = []
        for end in (End.FAIL, End.COMPLETE, End.DISCARD):
            ids += await put_many(backend, 200)
            await settle(backend, await take(backend, node, limit=200), end)
        assert (
            await backend.prune(Retention(completed=DAY, failed=DAY), now=NOW + 2 * DAY)
            == backend.capabilities.max_batch
        )
        assert [job.id for job in await every_job(backend, is_descending=False)] == ids[
            backend.capabilities.max_batch :
        ]

    async def test_a_node_that_holds_nothing_is_forgotten_after_days_of_silence(self, backend: Backend) -> None:
        silent, holding, beating = await join(backend), await join(backend), await join(backend)
        job = await put_running(backend, holding)
        await backend.beat(beating, now=NOW + DAY)
        await backend.prune(Retention(), now=NOW + SILENT_NODES_KEPT - SECOND)
        assert len(await backend.nodes()) == 3
        await backend.prune(Retention(), now=NOW + SILENT_NODES_KEPT + SECOND)
        assert {record.node.id for record in await backend.nodes()} == {holding, beating}
        with pytest.raises(NodeLostError):
            await backend.beat(silent, now=NOW + 2 * DAY)
        assert await rescue_all(backend, holding) == [Settled(id=job.id, state=State.PENDING)]
