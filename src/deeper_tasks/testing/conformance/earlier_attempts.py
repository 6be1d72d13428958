"""Conformance: what a claim tells about the attempts before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from deeper_tasks.backends.protocol import Backend, JobQuery
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import End, Settled
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    HOUR,
    MINUTE,
    NOW,
    QUEUE,
    SECOND,
    join,
    look,
    lose,
    only,
    put,
    put_many,
    put_running,
    rescue_all,
    settle,
    settlement,
    take,
    take_again,
)

Fields = dict[str, Any]
"""Fields of a settlement."""

_KINDS = pytest.mark.parametrize(
    ("mark", "since"), [({"is_task_unknown": True}, "unknown_since"), ({"is_unfit": True}, "unfit_since")]
)
EVERY = QueuePattern(prefix="")
_QUEUES = pytest.mark.parametrize("queue", [QUEUE, EVERY], ids=["one queue", "a pattern"])
_COMES_BACK = (End.RELEASE, End.SNOOZE, End.RETRY)
"""Ends after which the job comes back by itself."""


class EarlierAttemptsConformance:
    """The contract of `ClaimedJob.unknown_since`, `unfit_since` and `is_quarantined`."""

    async def test_a_new_job_has_no_earlier_attempts_to_tell_of(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend))
        assert (job.unknown_since, job.unfit_since, job.is_quarantined) == (None, None, False)

    @_KINDS
    async def test_the_store_keeps_since_when_workers_cannot_run_a_job(
        self, backend: Backend, mark: Fields, since: str
    ) -> None:
        node = await join(backend)
        await put(backend)
        seen = []
        for minute in range(3):
            now = NOW + minute * MINUTE
            [job] = await take(backend, node, now=now)
            seen.append(getattr(job, since))
            await settle(backend, [job], End.RELEASE, now=now, **mark)
        assert seen == [None, NOW, NOW]
        kept = await look(backend, job.id)
        assert (kept.unknown_since, kept.unfit_since) == ((NOW, None) if since == "unknown_since" else (None, NOW))
        assert (await backend.find(JobQuery())).jobs == (kept,)

    async def test_an_unknown_task_and_unfit_arguments_have_a_moment_each(self, backend: Backend) -> None:
        node = await join(backend)
        await settle(backend, [await put_running(backend, node)], End.RELEASE, is_task_unknown=True)
        await settle(backend, await take(backend, node), End.RELEASE, is_unfit=True, now=NOW + MINUTE)
        [job] = await take(backend, node)
        assert (job.unknown_since, job.unfit_since) == (NOW, NOW + MINUTE)

    @_KINDS
    async def test_the_moment_stays_over_attempts_whose_handler_was_not_started(
        self, backend: Backend, mark: Fields, since: str
    ) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job], End.RELEASE, **mark)
        for end in _COMES_BACK:
            job = await take_again(backend, node, now=NOW + MINUTE)
            assert getattr(job, since) == NOW
            await settle(backend, [job], end, now=NOW + MINUTE)
        assert getattr(await take_again(backend, node, now=NOW + MINUTE), since) == NOW

    @_KINDS
    async def test_the_moment_stays_over_the_loss_of_a_worker(self, backend: Backend, mark: Fields, since: str) -> None:
        node = await join(backend)
        await settle(backend, [await put_running(backend, node)], End.RELEASE, **mark)
        await take(backend, node)
        await rescue_all(backend, node)
        assert getattr(await take_again(backend, await join(backend)), since) == NOW

    @_KINDS
    async def test_the_moment_is_forgotten_once_the_handler_ran(
        self, backend: Backend, mark: Fields, since: str
    ) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        for hour, end in enumerate(_COMES_BACK):
            now = NOW + hour * HOUR
            assert getattr(job, since) is None
            await settle(backend, [job], End.RELEASE, now=now, **mark)
            job = await take_again(backend, node, now=now)
            assert getattr(job, since) == now
            await settle(backend, [job], end, ran_for=timedelta(0), now=now)
            job = await take_again(backend, node, now=now)
        assert getattr(job, since) is None

    @_KINDS
    async def test_a_manual_retry_forgets_the_moment(self, backend: Backend, mark: Fields, since: str) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job], End.RELEASE, **mark)
        await settle(backend, await take(backend, node), End.FAIL, error=BOOM)
        await backend.retry(only(job.id), now=NOW)
        assert getattr(await take_again(backend, node), since) is None

    async def test_each_job_of_a_batch_keeps_its_own_moments(self, backend: Backend) -> None:
        node = await join(backend)
        ids = [await put(backend) for _ in range(4)]
        jobs = await take(backend, node, limit=4)
        marks: tuple[Fields, ...] = ({"is_task_unknown": True}, {"is_unfit": True}, {"is_process_lost": True}, {})
        sent = [settlement(job, End.RELEASE, **mark) for job, mark in zip(jobs, marks, strict=True)]
        await backend.settle(sent, now=NOW)
        again = await take(backend, node, limit=4)
        assert [(job.id, job.unknown_since, job.unfit_since, job.is_quarantined) for job in again] == [
            (ids[0], NOW, None, False),
            (ids[1], None, NOW, False),
            (ids[2], None, None, True),
            (ids[3], None, None, False),
        ]

    async def test_a_started_job_that_was_lost_with_its_worker_is_quarantined(self, backend: Backend) -> None:
        job_id = await put(backend)
        assert not (await look(backend, job_id)).is_quarantined
        await lose(backend, job_id)
        kept = await look(backend, job_id)
        assert kept.is_quarantined
        assert (await backend.find(JobQuery())).jobs == (kept,)
        assert (await take_again(backend, await join(backend))).is_quarantined

    async def test_a_repeated_claim_tells_of_a_quarantine_too(self, backend: Backend) -> None:
        await lose(backend, await put(backend))
        node = await join(backend)
        [job] = await take(backend, node)
        assert await take(backend, node, token=job.token) == (job,)

    async def test_a_quarantine_stays_when_the_job_waits_in_another_worker_that_is_lost(self, backend: Backend) -> None:
        await lose(backend, await put(backend))
        node = await join(backend)
        await take(backend, node, slots=0)
        await rescue_all(backend, node)
        assert (await take_again(backend, await join(backend))).is_quarantined

    @_QUEUES
    async def test_a_claim_takes_no_more_of_those_in_quarantine_than_it_asks_for_and_the_others_keep_their_places(
        self, backend: Backend, queue: str | QueuePattern
    ) -> None:
        lost = await lose_several(backend, 4)
        later = await put_many(backend, 3, now=NOW + SECOND)
        node, now = await join(backend), NOW + MINUTE
        assert [job.id for job in await take(backend, node, limit=3, queue=queue, quarantined=0, now=now)] == later
        later = await put_many(backend, 3, now=NOW + SECOND)
        first = await take(backend, node, limit=3, queue=queue, quarantined=1, now=now)
        assert [job.id for job in first] == [lost[0], *later[:2]]
        assert await take(backend, node, queue=queue, token=first[0].token, quarantined=0, now=now) == first
        await settle(backend, first, End.RELEASE, now=now)
        rest = await take(backend, node, limit=9, queue=queue, quarantined=3, now=now)
        assert [job.id for job in rest] == [*lost[:3], *later]

    async def test_the_queues_of_a_pattern_share_what_a_claim_takes_of_those_in_quarantine(
        self, backend: Backend
    ) -> None:
        queues = ("a", "b", "c")
        lost = [await put(backend, queue=queue) for queue in queues]
        node = await join(backend)
        await take(backend, node, limit=3, queue=EVERY)
        await rescue_all(backend, node)
        later = [await put(backend, queue=queue, now=NOW + SECOND) for queue in queues]
        taken = await take(backend, await join(backend), limit=5, queue=EVERY, quarantined=2, now=NOW + MINUTE)
        assert [job.id for job in taken] == [lost[0], lost[1], later[2], later[0], later[1]]
        assert {job.queue for job in taken if job.is_quarantined} == {"a", "b"}

    @_QUEUES
    async def test_those_in_quarantine_that_expired_take_no_place_of_a_claim(
        self, backend: Backend, queue: str | QueuePattern
    ) -> None:
        *_, lost = await lose_several(backend, 3, expires_in=[MINUTE, MINUTE, HOUR])
        urgent = await put(backend, priority=-1)
        taken = await take(backend, await join(backend), limit=2, queue=queue, quarantined=1, now=NOW + 2 * MINUTE)
        assert [job.id for job in taken] == [urgent, lost]

    async def test_a_job_of_a_trusted_task_is_not_quarantined_when_its_worker_is_lost(self, backend: Backend) -> None:
        node = await join(backend)
        await put_running(backend, node, task="shop.trusted")
        await put_running(backend, node, task="shop.other")
        await rescue_all(backend, node, trusted=["shop.trusted"])
        jobs = await take(backend, await join(backend), limit=2)
        assert {job.task: job.is_quarantined for job in jobs} == {"shop.trusted": False, "shop.other": True}

    async def test_a_quarantine_stays_over_attempts_whose_handler_was_not_started(self, backend: Backend) -> None:
        await lose(backend, await put(backend))
        node = await join(backend)
        for end in _COMES_BACK:
            job = await take_again(backend, node)
            assert job.is_quarantined
            await settle(backend, [job], end)
        assert (await take_again(backend, node)).is_quarantined

    async def test_a_quarantine_ends_once_the_handler_ran(self, backend: Backend) -> None:
        job_id = await put(backend, max_attempts=9)
        for end in _COMES_BACK:
            await lose(backend, job_id)
            node = await join(backend)
            [job] = await take(backend, node)
            assert job.is_quarantined
            await settle(backend, [job], end, ran_for=timedelta(0))
            job = await take_again(backend, node)
            assert not job.is_quarantined
            await settle(backend, [job], End.RELEASE)

    @pytest.mark.parametrize("mark", [{"is_task_unknown": True}, {"is_unfit": True}, {"is_process_lost": True}])
    async def test_a_completed_job_has_no_marks(self, backend: Backend, mark: Fields) -> None:
        node = await join(backend)
        await settle(backend, [await put_running(backend, node)], End.RELEASE, **mark)
        job = await take_again(backend, node)
        await settle(backend, [job], End.COMPLETE, ran_for=SECOND)
        kept = await look(backend, job.id)
        assert (kept.unknown_since, kept.unfit_since, kept.is_quarantined) == (None, None, False)

    async def test_a_manual_retry_of_a_job_that_was_discarded_with_its_worker_keeps_the_quarantine(
        self, backend: Backend
    ) -> None:
        job_id = await put(backend, max_attempts=1)
        assert await lose(backend, job_id) == [Settled(id=job_id, state=State.DISCARDED)]
        await backend.retry(only(job_id), now=NOW)
        assert (await take_again(backend, await join(backend))).is_quarantined

    async def test_a_job_that_was_cancelled_with_its_worker_is_quarantined_too(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        await rescue_all(backend, node)
        await backend.retry(only(job.id), now=NOW)
        assert (await take_again(backend, await join(backend))).is_quarantined

    async def test_an_expiry_keeps_the_quarantine(self, backend: Backend) -> None:
        job_id = await put(backend, expires_in=MINUTE)
        await lose(backend, job_id)
        assert len(await backend.expire(now=NOW + HOUR)) == 1
        await backend.retry(only(job_id), now=NOW + HOUR)
        assert (await take_again(backend, await join(backend), now=NOW + HOUR)).is_quarantined

    @pytest.mark.parametrize("ran_for", [None, timedelta(0)])
    async def test_a_settlement_that_tells_of_the_loss_of_its_process_quarantines_the_job(
        self, backend: Backend, ran_for: timedelta | None
    ) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job], End.RETRY, error=BOOM, is_process_lost=True, ran_for=ran_for)
        again = await take_again(backend, node)
        assert again.is_quarantined
        await settle(backend, [again], End.RETRY, error=BOOM, is_process_lost=True, ran_for=ran_for)
        assert (await take_again(backend, node)).is_quarantined

    async def test_an_attempt_that_was_given_back_after_it_ran_started_when_it_ran(self, backend: Backend) -> None:
        job = await put_running(backend, await join(backend), is_started=False)
        await settle(backend, [job], End.RELEASE, ran_for=SECOND, now=NOW + MINUTE)
        released = await look(backend, job.id)
        assert (released.attempt, released.attempted_at) == (0, NOW + MINUTE - SECOND)


async def lose_several(
    backend: Backend, count: int, *, expires_in: Sequence[timedelta | None] = (None,) * 9
) -> list[JobId]:
    """Have a worker be lost that has started so many jobs; returns them in the order in which they are pending."""
    ids = [await put(backend, expires_in=expires_in[place]) for place in range(count)]
    node = await join(backend)
    await take(backend, node, limit=count)
    await rescue_all(backend, node)
    return ids
