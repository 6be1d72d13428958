"""Conformance: getting and finding jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import pytest

from deeper_tasks.backends.protocol import (
    Backend,
    JobFilter,
    JobQuery,
    SortKey,
)
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Job, JobOptions
from deeper_tasks.domain.short_ids import cut
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    MINUTE,
    NOW,
    SECOND,
    every_job,
    join,
    new_id,
    order_of,
    put,
    put_ended,
    put_many,
    put_running,
    settle,
    take,
)

VALUE: dict[SortKey, Callable[[Job], datetime | None]] = {
    SortKey.INSERTED_AT: lambda job: job.inserted_at,
    SortKey.SCHEDULED_AT: lambda job: job.scheduled_at,
    SortKey.FINISHED_AT: lambda job: job.finished_at,
}


async def find(backend: Backend, **conditions: object) -> set[JobId]:
    """Return the ids of the jobs that a filter selects."""
    page = await backend.find(JobQuery(filter=JobFilter(**conditions), limit=1000))  # type: ignore[arg-type]
    assert page.total == len(page.jobs)
    assert page.total_is_exact
    assert page.next is None
    return {job.id for job in page.jobs}


async def put_assorted(backend: Backend) -> int:
    """Insert jobs with equal and different times, some of them ended; returns how many."""
    node = await join(backend)
    for batch in range(4):
        now = NOW + batch * SECOND
        await put_many(backend, 6, now=now)
        await put_many(backend, 3, now=now, delay=(5 - batch) * MINUTE)
        await put(backend, now=now, priority=-1)
        for seconds in (20, 10):
            jobs = await take(backend, node, limit=2, now=now)
            await settle(backend, jobs, now=now + seconds * SECOND)
    return 40


class FindingConformance:
    """The contract of `get`, `find` and `find_ids`."""

    async def test_an_unknown_job_is_none(self, backend: Backend) -> None:
        assert await backend.get(new_id()) is None

    async def test_an_empty_store_has_nothing_to_show(self, backend: Backend) -> None:
        page = await backend.find(JobQuery())
        assert (page.jobs, page.total, page.total_is_exact, page.next) == ((), 0, True, None)
        assert await backend.nodes() == []
        assert await backend.queues() == []
        counts = await backend.statistics(now=NOW)
        assert (counts.queues, counts.nodes, counts.now) == ({}, (), NOW)

    async def test_a_list_shows_whole_jobs_the_newest_first(self, backend: Backend) -> None:
        old = await put(backend, options=JobOptions(tags=("x",)))
        new = await put(backend, now=NOW + SECOND, queue="other")
        page = await backend.find(JobQuery())
        assert list(page.jobs) == [await backend.get(new), await backend.get(old)]

    async def test_jobs_are_found_by_id(self, backend: Backend) -> None:
        ids = await put_many(backend, 3)
        assert await find(backend, ids=(ids[2], ids[0], new_id())) == {ids[0], ids[2]}
        assert await find(backend, ids=()) == set()

    async def test_ids_are_found_by_their_beginnings(self, backend: Backend) -> None:
        if not backend.capabilities.ids.rounds:
            pytest.skip("ids of this store are given whole")
        ids = await put_many(backend, 5)
        whole = [str(job_id) for job_id in ids]
        unknown = cut(new_id(), 13)[:-1] + "0"
        found = await backend.find_ids([whole[1], cut(ids[0], 13), cut(ids[4], 31), unknown], limit=10)
        assert found == [[ids[1]], sorted(ids), [ids[4]], []]
        assert await backend.find_ids([cut(ids[0], 13)], limit=2) == [sorted(ids)[:2]]
        assert await backend.find_ids([], limit=2) == []

    async def test_jobs_are_found_by_state(self, backend: Backend) -> None:
        completed = await put_ended(backend, State.COMPLETED)
        failed = await put_ended(backend, State.FAILED)
        running = (await put_running(backend, await join(backend))).id
        pending = await put(backend)
        assert await find(backend, states=frozenset({State.COMPLETED, State.RUNNING})) == {completed, running}
        assert await find(backend, states=frozenset({State.PENDING})) == {pending}
        assert await find(backend, states=frozenset({State.RETRYABLE})) == set()
        assert await find(backend, states=frozenset()) == set()
        assert await find(backend) == {completed, failed, running, pending}

    async def test_jobs_are_found_by_queue(self, backend: Backend) -> None:
        one = await put(backend, queue="one")
        await put(backend, queue="two")
        assert await find(backend, queue="one") == {one}
        assert await find(backend, queue="none") == set()

    async def test_jobs_are_found_by_task(self, backend: Backend) -> None:
        job_id = await put(backend, task="shop.send")
        await put(backend, task="shop.send_all")
        assert await find(backend, task="shop.send") == {job_id}
        assert await find(backend, task="shop") == set()

    async def test_jobs_are_found_by_module_at_any_depth(self, backend: Backend) -> None:
        send = await put(backend, task="my_shop.mails.send")
        deep = await put(backend, task="my_shop.mails.Sender.send")
        for task in ("my_shop.mails", "my_shop.mails_old.send", "myxshop.mails.send", "My_Shop.mails.send"):
            await put(backend, task=task)
        await put(backend, task="other.my_shop.mails.send")
        assert await find(backend, worker_module="my_shop.mails") == {send, deep}
        assert await find(backend, worker_module="%") == set()

    async def test_jobs_are_found_by_the_module_in_which_their_function_stood(self, backend: Backend) -> None:
        send = await put(backend, task="send mail", options=JobOptions(path="my_shop.mails.send", tags=("x",)))
        await put(backend, task="my_shop.mails", options=JobOptions(path="my_shop.mails_old.send"))
        await put(backend, task="send", options=JobOptions(meta={"path": "my_shop.mails.send"}))
        named = await put(backend, task="my_shop.mails.send", options=JobOptions(path="other.send"))
        assert await find(backend, worker_module="my_shop.mails") == {send, named}
        assert await find(backend, worker_module="my_shop.mails", tag="x") == {send}
        assert await find(backend, worker_module="other") == {named}

    async def test_jobs_are_found_that_have_begun(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 5)
        jobs = await take(backend, node, limit=2)
        await settle(backend, jobs[:1])
        await put(backend, delay=MINUTE)
        completed, running = jobs[0].id, jobs[1].id
        assert await find(backend, has_begun=True) == {completed, running}
        assert await find(backend, has_begun=True, states=frozenset({State.RUNNING})) == {running}
        asked = await backend.cancel(
            JobFilter(has_begun=True, states=frozenset({State.RUNNING})), reason="enough", now=NOW
        )
        assert [job.id for job in asked] == [running]

    async def test_jobs_are_found_by_tag(self, backend: Backend) -> None:
        red = await put(backend, options=JobOptions(tags=("red", "größe")))
        both = await put(backend, options=JobOptions(tags=("blue", "red")))
        await put(backend, options=JobOptions(tags=("redder",), meta={"red": ["red"]}))
        await put(backend)
        assert await find(backend, tag="red") == {red, both}
        assert await find(backend, tag="größe") == {red}

    async def test_all_conditions_of_a_filter_must_hold(self, backend: Backend) -> None:
        tagged = JobOptions(tags=("x",))
        job_id = await put(backend, queue="one", task="shop.send", options=tagged)
        await put(backend, queue="two", task="shop.send", options=tagged)
        await put(backend, queue="one", task="other.send", options=tagged)
        await put(backend, queue="one", task="shop.send")
        await put(backend, queue="one", task="shop.send", options=tagged, delay=MINUTE)
        found = await find(
            backend, queue="one", worker_module="shop", tag="x", states=frozenset({State.PENDING}), task="shop.send"
        )
        assert found == {job_id}

    @pytest.mark.parametrize("sort_by", list(SortKey))
    @pytest.mark.parametrize("is_descending", [True, False])
    async def test_a_list_is_sorted_by_its_key_and_then_by_id(
        self,
        backend: Backend,
        sort_by: SortKey,
        is_descending: bool,  # noqa: FBT001
    ) -> None:
        number = await put_assorted(backend)
        page = await backend.find(JobQuery(sort_by=sort_by, is_descending=is_descending, limit=1000))
        assert len({job.id for job in page.jobs}) == number
        timed = [(value, order_of(job.id)) for job in page.jobs if (value := VALUE[sort_by](job)) is not None]
        assert timed == sorted(timed, reverse=is_descending)
        assert [job.id for job in page.jobs[: len(timed)]] == [job_id for _, (_, job_id) in timed]

    @pytest.mark.parametrize("sort_by", list(SortKey))
    @pytest.mark.parametrize("is_descending", [True, False])
    async def test_cursors_lead_through_the_whole_list_without_a_gap_or_a_repeat(
        self,
        backend: Backend,
        sort_by: SortKey,
        is_descending: bool,  # noqa: FBT001
    ) -> None:
        number = await put_assorted(backend)
        whole = await backend.find(JobQuery(sort_by=sort_by, is_descending=is_descending, limit=1000))
        query = JobQuery(sort_by=sort_by, is_descending=is_descending, limit=7)
        page = await backend.find(query)
        jobs = list(page.jobs)
        while page.next is not None:
            assert len(page.jobs) == 7
            page = await backend.find(JobQuery(sort_by=sort_by, is_descending=is_descending, limit=7, after=page.next))
            assert page.total == number
            jobs.extend(page.jobs)
        assert jobs == list(whole.jobs)

    @pytest.mark.parametrize("is_descending", [True, False])
    @pytest.mark.parametrize("queue", [None, "one"])
    async def test_cursors_lead_across_states_and_queues_where_many_ended_in_one_moment_and_some_not_at_all(
        self,
        backend: Backend,
        queue: str | None,
        is_descending: bool,  # noqa: FBT001
    ) -> None:
        for name in ("one", "two", "one"):
            for state in (State.COMPLETED, State.FAILED, State.CANCELLED):
                await put_ended(backend, state, queue=name)
            await put_ended(backend, State.DISCARDED, queue=name, now=NOW + SECOND)
        for name in ("two", "one", "one"):
            await put_many(backend, 2, queue=name)
            await put(backend, queue=name, delay=MINUTE)
        target = JobFilter(
            queue=queue,
            states=frozenset({State.COMPLETED, State.FAILED, State.DISCARDED, State.PENDING, State.SCHEDULED}),
        )
        query = JobQuery(filter=target, sort_by=SortKey.FINISHED_AT, is_descending=is_descending, limit=1000)
        whole = await backend.find(query)
        timed = [(job.finished_at, order_of(job.id)) for job in whole.jobs if job.finished_at is not None]
        untimed = [job.id for job in whole.jobs if job.finished_at is None]
        assert (len(timed), len(untimed)) == ((9, 9) if queue is None else (6, 6))
        assert [job.id for job in whole.jobs] == [job_id for _, (_, job_id) in timed] + untimed
        assert timed == sorted(timed, reverse=is_descending)
        assert untimed == sorted(untimed, key=order_of, reverse=is_descending)
        jobs = await every_job(
            backend, filter=target, sort_by=SortKey.FINISHED_AT, is_descending=is_descending, limit=2
        )
        assert jobs == list(whole.jobs)
        pages = [
            await backend.find(msgspec.structs.replace(query, limit=4, offset=offset)) for offset in range(0, 20, 4)
        ]
        assert [job for page in pages for job in page.jobs] == jobs

    async def test_a_cursor_is_a_place_that_new_jobs_do_not_move(self, backend: Backend) -> None:
        ids = await put_many(backend, 6)
        page = await backend.find(JobQuery(limit=3))
        await put(backend, now=NOW + SECOND)
        following = await backend.find(JobQuery(limit=3, after=page.next))
        assert [job.id for job in (*page.jobs, *following.jobs)] == ids[::-1]

    async def test_an_offset_skips_as_many_jobs(self, backend: Backend) -> None:
        ids = (await put_many(backend, 10))[::-1]
        pages = [await backend.find(JobQuery(limit=4, offset=offset)) for offset in (0, 4, 8, 12)]
        assert [[job.id for job in page.jobs] for page in pages] == [ids[:4], ids[4:8], ids[8:], []]
        assert [page.total for page in pages] == [10] * 4

    async def test_the_last_page_has_no_next(self, backend: Backend) -> None:
        await put_many(backend, 4)
        page = await backend.find(JobQuery(limit=4))
        assert page.next is None

    async def test_totals_are_exact_for_states_and_queue_and_at_least_counted_to_ten_thousand_for_others(
        self, backend: Backend
    ) -> None:
        options = JobOptions(tags=("many",))
        await put_many(backend, 6000, options=options)
        await put_many(backend, 4001, options=options)
        by_queue = JobFilter(queue="default", states=frozenset({State.PENDING, State.RUNNING}))
        exact = await backend.find(JobQuery(filter=by_queue, limit=1))
        assert (exact.total, exact.total_is_exact) == (10_001, True)
        counted = await backend.find(JobQuery(filter=JobFilter(tag="many"), limit=1))
        assert (counted.total, counted.total_is_exact) in {(10_000, False), (10_001, True)}
