"""Looking: lists page by page and from cursor to cursor, their totals, and the statistics."""

import asyncio
import sys
from datetime import timedelta
from uuid import UUID

import pytest

from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import InvalidOptionError
from deeper_tasks.testing.conformance.builders import new_node, new_token


@pytest.fixture
def send(manager):
    @manager.task(name="shop.mails.send")
    async def send(number: int = 0): ...

    return send


@pytest.fixture
async def seven(manager, send):
    """Seven jobs, in the order of their enqueue, one at a time."""
    return [await send.enqueue(number) for number in range(7)]


def ids_of(page):
    return [entry.id for entry in page.entries]


async def test_an_empty_list_has_no_pages(manager):
    page = await manager.list_tasks()
    assert (page.entries, page.total_entries, page.total_pages, page.page_number) == ((), 0, 0, 1)
    assert (page.page_size, page.next_cursor, page.total_is_exact) == (50, None, True)


async def test_a_list_is_read_page_by_page_the_newest_first(manager, seven):
    pages = [await manager.list_tasks(page=number, per_page=3) for number in (1, 2, 3, 4)]
    assert [ids_of(page) for page in pages] == [seven[6:3:-1], seven[3:0:-1], seven[:1], []]
    assert {(page.total_entries, page.total_pages, page.page_size) for page in pages} == {(7, 3, 3)}
    assert [page.page_number for page in pages] == [1, 2, 3, 4]
    assert [page.next_cursor is None for page in pages] == [False, False, True, True]


@pytest.mark.parametrize("sort_by", ["inserted_at", "scheduled_at", "finished_at"])
@pytest.mark.parametrize("descending", [True, False])
async def test_cursors_lead_through_the_whole_list_whatever_it_is_sorted_by(manager, seven, sort_by, descending):
    await manager.cancel_task(seven[2])
    await manager.cancel_task(seven[4])
    query = {"sort_by": sort_by, "descending": descending}
    whole = ids_of(await manager.list_tasks(**query))
    page = await manager.list_tasks(per_page=2, **query)
    seen = ids_of(page)
    while page.next_cursor is not None:
        page = await manager.list_tasks(per_page=2, cursor=page.next_cursor, **query)
        seen += ids_of(page)
    assert seen == whole
    assert sorted(seen) == sorted(seven)
    if sort_by == "finished_at":
        assert set(whole[:2]) == {seven[2], seven[4]}
    else:
        assert whole == (seven[::-1] if descending else seven)


async def test_a_cursor_is_not_confused_by_what_is_enqueued_meanwhile(manager, send, seven):
    page = await manager.list_tasks(per_page=3)
    await send.enqueue(99)
    assert ids_of(await manager.list_tasks(per_page=3, cursor=page.next_cursor)) == seven[3:0:-1]


@pytest.mark.parametrize("other", [{"descending": False}, {"sort_by": "finished_at"}])
async def test_a_cursor_of_another_order_is_refused(manager, seven, other):
    page = await manager.list_tasks(per_page=3)
    with pytest.raises(InvalidOptionError, match="belongs to a list by inserted_at, descending"):
        await manager.list_tasks(per_page=3, cursor=page.next_cursor, **other)
    with pytest.raises(InvalidOptionError, match="the cursor's order"):
        manager.sync.list_dead_letters(cursor=page.next_cursor)
    page = await manager.list_tasks(per_page=3, **other)
    with pytest.raises(InvalidOptionError, match="the cursor's order"):
        await manager.list_tasks(per_page=3, cursor=page.next_cursor)


async def test_an_id_may_be_given_as_a_uuid(manager, seven):
    assert await manager.expand_task_id(UUID(seven[0])) == seven[0]
    assert (await manager.get_task_status(UUID(seven[0]))).id == seven[0]


async def test_a_list_meets_its_conditions(manager, send):
    mail = await send.with_options(queue="mail", tags=["urgent"]).enqueue()
    later = await send.with_options(delay_seconds=60).enqueue()

    @manager.task(name="shop.reports.build")
    async def build(): ...

    report = await build.enqueue()
    for conditions, expected in (
        ({"queue": "mail"}, {mail}),
        ({"tag": "urgent"}, {mail}),
        ({"status": "scheduled"}, {later}),
        ({"status": State.PENDING}, {mail, report}),
        ({"status": ["scheduled", "pending"]}, {mail, later, report}),
        ({"status": []}, set()),
        ({"task": build}, {report}),
        ({"task": "shop.mails.send"}, {mail, later}),
        ({"worker_module": "shop.mails"}, {mail, later}),
        ({"worker_module": "shop"}, {mail, later, report}),
        ({"worker_module": "sho"}, set()),
        ({"worker_module": "shop.%"}, set()),
        ({"queue": "mail", "status": "scheduled"}, set()),
    ):
        page = await manager.list_tasks(**conditions)
        assert set(ids_of(page)) == expected, conditions
        assert page.total_entries == len(expected), conditions
        assert page.total_is_exact


async def test_totals_of_long_lists_are_exact_by_state_and_queue_and_otherwise_stop_counting(manager, send):
    calls = [send.call()] * 6_000
    await manager.enqueue_many(calls)
    await manager.enqueue_many([send.with_options(tags=["t"]).call()] * 6_000)
    exact = await manager.list_tasks(queue="default", status="pending", per_page=1)
    assert (exact.total_entries, exact.total_is_exact, exact.total_pages) == (12_000, True, 12_000)
    counted = await manager.list_tasks(task=send, per_page=1)
    assert (counted.total_entries, counted.total_is_exact) == (10_000, False)
    tagged = await manager.list_tasks(tag="t", per_page=1)
    assert (tagged.total_entries, tagged.total_is_exact) == (6_000, True)


async def test_dead_letters_are_listed_with_the_errors_of_every_attempt_the_latest_first(manager, send):
    node = new_node()
    await manager.backend.register(node)
    for number in range(4):
        await send.with_options(max_attempts=2, queue=f"queue-{number % 2}").enqueue(number)
    for end in (End.RETRY, End.DISCARD):
        for queue in ("queue-0", "queue-1"):
            claim = await manager.backend.claim(queue, limit=10, slots=10, node=node.id, token=new_token())
            await manager.backend.settle(
                [
                    Settlement(
                        id=job.id, token=job.token, end=end, error=ErrorReport(kind="ValueError", message=end.value)
                    )
                    for job in claim.jobs
                ]
            )
        await manager.backend.promote()
    await send.enqueue(99)
    page = await manager.list_dead_letters(per_page=3)
    assert (page.total_entries, page.total_pages, page.total_is_exact) == (4, 2, True)
    rest = await manager.list_dead_letters(per_page=3, cursor=page.next_cursor)
    entries = [*page.entries, *rest.entries]
    assert sorted(entry.args[0] for entry in entries) == [0, 1, 2, 3]
    ends = [(entry.finished_at, entry.id) for entry in entries]
    assert ends == sorted(ends, reverse=True)
    assert all([error.message for error in entry.errors] == ["retry", "discard"] for entry in entries)
    assert (await manager.list_dead_letters(page=2, per_page=3)).entries == rest.entries
    assert {entry.queue for entry in (await manager.list_dead_letters(queue="queue-1")).entries} == {"queue-1"}
    assert (await manager.list_dead_letters(task=send, worker_module="shop", tag="none")).entries == ()
    oldest = await manager.list_dead_letters(sort_by="inserted_at", descending=False)
    assert [entry.args[0] for entry in oldest.entries] == [0, 1, 2, 3]


async def test_statistics_count_by_queue_and_state(manager, send):
    await manager.enqueue_many([send.with_options(queue="mail").call()] * 5)
    await send.with_options(delay_seconds=60).enqueue()
    [cancelled] = await manager.enqueue_many([send.call()])
    await manager.cancel_task(cancelled)
    statistics = await manager.get_statistics()
    mail, default = statistics.queues["mail"], statistics.queues["default"]
    assert (mail.pending, mail.running, mail.failed_today) == (5, 0, 0)
    assert (default.scheduled, default.cancelled, default.pending) == (1, 1, 0)
    assert statistics.workers_summary.workers == 0


async def test_statistics_count_the_dead_letters_and_completions_of_today(manager, send, working):
    @manager.task(name="shop.fail", max_attempts=1)
    async def fail():
        raise ValueError("boom")

    ids = [await send.enqueue(), await fail.enqueue()]
    async with working(manager):
        await asyncio.gather(*(manager.result(task_id, timeout=20) for task_id in ids), return_exceptions=True)
        queue = (await manager.get_statistics()).queues["default"]
    assert (queue.completed_today, queue.failed_today, queue.completed, queue.discarded) == (1, 1, 1, 1)


async def test_statistics_count_busy_and_idle_slots(manager, send):
    node = new_node()
    await manager.backend.register(node)
    await manager.enqueue_many([send.call()] * 3)
    await manager.backend.claim("default", limit=3, slots=3, node=node.id, token=new_token())
    summary = (await manager.get_statistics()).workers_summary
    assert (summary.workers, summary.total_busy, summary.total_idle) == (1, 3, 7)


async def test_a_status_tells_all_that_is_known(manager, send):
    task_id = await send.enqueue(7)
    node = new_node()
    await manager.backend.register(node)
    await manager.backend.claim("default", limit=1, slots=1, node=node.id, token=new_token())
    status = await manager.get_task_status(task_id)
    assert (status.status, status.attempts, status.node) == (State.RUNNING, 1, node.id)
    assert status.attempted_at >= status.inserted_at
    assert all(
        moment.utcoffset() == timedelta(0) for moment in (status.inserted_at, status.scheduled_at, status.attempted_at)
    )
    assert (status.result, status.last_error, status.errors, status.log) == (None, None, (), ())


@pytest.mark.parametrize("mark", ["is_task_unknown", "is_unfit"])
async def test_a_job_that_workers_only_gave_back_has_not_started_and_tells_since_when(manager, send, mark):
    job = await send.enqueue()
    store, node = manager.backend, new_node()
    await store.register(node)
    token = new_token()
    [claimed] = (await store.claim("default", limit=1, slots=1, node=node.id, token=token)).jobs
    await store.settle([Settlement(id=claimed.id, token=token, end=End.RELEASE, **{mark: True})])
    status = await manager.get_task_status(job)
    assert (status.attempts, status.attempted_at) == (0, None)
    assert (status.unknown_since is not None, status.unfit_since is not None) == (
        mark == "is_task_unknown",
        mark == "is_unfit",
    )


class Mails:
    """A class whose functions are tasks."""

    @staticmethod
    def send(number: int) -> None: ...

    @staticmethod
    def forget(number: int) -> None: ...


async def test_a_task_with_a_name_of_its_own_is_of_the_module_and_class_in_which_it_stands(manager):
    send = manager.task(name="send-mail", queue="mails")(Mails.send)
    forget = manager.task(Mails.forget)
    sent, forgotten = await send.enqueue(1), await forget.enqueue(2)
    later = await send.with_options(tags=["x"], delay_seconds=60).enqueue(3)
    status = await manager.get_task_status(sent)
    assert (status.task, status.worker, status.function) == ("send-mail", f"{__name__}.Mails", "send")
    for of_module in (__name__, sys.modules[__name__], Mails, f"{__name__}.Mails", __name__.partition(".")[0]):
        found = (await manager.list_tasks(worker_module=of_module)).entries
        assert {job.id for job in found} == {sent, forgotten, later}
    assert (await manager.list_tasks(worker_module=f"{__name__}.Mail")).entries == ()
    assert [job.id for job in (await manager.list_tasks(worker_module=Mails, tag="x")).entries] == [later]
    assert await manager.cancel_tasks(worker_module=Mails) == 3
