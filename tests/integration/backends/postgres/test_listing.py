"""The listing: every page is what sorting all jobs gives, and its totals are what the counters say."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import replace

from deeper_tasks.backends.codes import CODES
from deeper_tasks.backends.postgres import Address, PostgresBackend, listing
from deeper_tasks.backends.protocol import Cursor, JobFilter, JobQuery, SortKey
from deeper_tasks.domain import paging
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import DEAD_LETTER, TERMINAL, WAITING, State
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import MINUTE, NOW, SECOND, put, put_many

COLUMNS = "id, state, task, queue, priority, inserted_at, scheduled_at, finished_at, options"
COUNT = (
    "INSERT INTO counter (queue, state, bucket, count) SELECT queue, state, 0, count(*) FROM job GROUP BY queue, state"
)


def fill(url, rows):
    """Put jobs into an empty store as they are, and the counters that they come to."""
    with (
        psycopg.connect(url, options="-c search_path=deeper") as connection,
        connection.cursor() as cursor,
    ):
        with cursor.copy(f"COPY job ({COLUMNS}, max_attempts, original_max_attempts, arguments) FROM STDIN") as lines:
            for row in rows:
                lines.write_row((*row.values(), 5, 5, "[[],{}]"))
        cursor.execute(COUNT)


def at(second):
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


def some_jobs(dice, number=900):
    """Return jobs whose states, queues, priorities and times are unevenly spread and often equal."""
    common = dice.choice([State.COMPLETED, State.PENDING, State.SCHEDULED])
    rows = []
    for place in range(number):
        state = common if dice.random() < 0.8 else dice.choice(list(State))
        inserted = place // 7
        scheduled = inserted + (dice.randrange(200) if dice.random() < 0.3 else 0)
        rows.append(
            {
                "id": str(UUID(int=dice.getrandbits(128))),
                "state": CODES[state],
                "task": dice.choice(["shop.send", "shop.pack", "shop.deep.send", "shopping.send"]),
                "queue": dice.choice(["emails", "default", "default", "default", 'sl"ow, \\ {größe}']),
                "priority": dice.choice([0, 0, 0, -100, 7]),
                "inserted_at": at(inserted),
                "scheduled_at": at(scheduled),
                "finished_at": at(scheduled + dice.randrange(50)) if state.is_terminal else None,
                "options": '{"tags":["red"]}' if dice.random() < 0.1 else None,
            }
        )
    return rows


def matches(condition, row):
    return (
        (condition.states is None or row["state"] in {CODES[state] for state in condition.states})
        and condition.queue in {None, row["queue"]}
        and condition.task in {None, row["task"]}
        and (condition.worker_module is None or row["task"].startswith(condition.worker_module + "."))
        and (condition.tag is None or row["options"] is not None)
        and (condition.ids is None or row["id"] in condition.ids)
    )


def in_order(rows, query):
    places = [(row[query.sort_by.value], row["id"]) for row in rows if matches(query.filter, row)]
    timed = sorted((place for place in places if place[0] is not None), reverse=query.is_descending)
    untimed = sorted((place for place in places if place[0] is None), reverse=query.is_descending)
    return timed + untimed


def some_condition(dice, rows):
    states = [None, TERMINAL, DEAD_LETTER, WAITING, frozenset({dice.choice([*State])})]
    return JobFilter(
        states=dice.choice([*states, frozenset(dice.sample([*State], 3))]),
        queue=dice.choice([None, None, "emails", "default", 'sl"ow, \\ {größe}', "none"]),
        task=dice.choice([None, None, None, None, "shop.send", "none"]),
        worker_module=dice.choice([None, None, None, None, "shop", "shop.deep"]),
        tag=dice.choice([None, None, None, None, "red"]),
        ids=dice.choice([None] * 7 + [tuple(row["id"] for row in dice.sample(rows, 60))]),
    )


@pytest.mark.parametrize("seed", range(6))
async def test_every_list_is_what_sorting_all_jobs_gives(seed, backend, database_url):
    dice = random.Random(seed)
    rows = some_jobs(dice)
    fill(database_url, rows)
    for _ in range(120):
        query = JobQuery(
            filter=some_condition(dice, rows),
            sort_by=dice.choice(list(SortKey)),
            is_descending=dice.random() < 0.5,
            limit=dice.choice([1, 7, 50, 1000]),
        )
        expected = in_order(rows, query)
        start = dice.randrange(len(expected) + 1)
        if start and dice.random() < 0.5:
            value, job_id = expected[start - 1]
            query = replace(query, after=Cursor(value=value, id=JobId(job_id)))
        else:
            query = replace(query, offset=start)
        page = await backend.find(query)
        rest = expected[start:]
        assert [job.id for job in page.jobs] == [job_id for _, job_id in rest[: query.limit]], query
        assert (page.total, page.total_is_exact) == (len(expected), True), query
        following = rest[query.limit - 1] if len(rest) > query.limit else None
        assert page.next == (None if following is None else Cursor(value=following[0], id=JobId(following[1])))


async def test_a_page_far_down_is_the_same_as_by_its_cursor(backend, database_url):
    fill(database_url, some_jobs(random.Random(1), 5_000))
    last = (await backend.find(JobQuery(limit=1, offset=4_499))).next
    by_offset = await backend.find(JobQuery(limit=20, offset=4_500))
    assert by_offset.jobs == (await backend.find(JobQuery(limit=20, after=last))).jobs
    assert len(by_offset.jobs) == 20


async def test_a_page_beyond_the_end_is_empty_and_knows_the_total(backend):
    await put_many(backend, 3)
    page = await backend.find(JobQuery(offset=3))
    assert (page.jobs, page.total, page.next) == ((), 3, None)


@pytest.mark.parametrize("sort_by", list(SortKey))
async def test_a_job_stays_in_its_list_through_all_that_may_move_it(sort_by, backend):
    """A job that was moved to the moment of its insertion, or from it, is on exactly one way in each state."""
    job_id = await put(backend)
    query = JobQuery(sort_by=sort_by)

    async def is_listed_once():
        page = await backend.find(query)
        return [job.id for job in page.jobs] == [job_id] and page.total == 1

    assert await is_listed_once()
    await backend.cancel(JobFilter(ids=(job_id,)), reason="enough", now=NOW)
    assert await is_listed_once()
    # Due again at the very moment at which it was inserted, and later.
    await backend.retry(JobFilter(ids=(job_id,)), now=NOW)
    assert await is_listed_once()
    await backend.cancel(JobFilter(ids=(job_id,)), reason="enough", now=NOW + SECOND)
    await backend.retry(JobFilter(ids=(job_id,)), now=NOW + MINUTE)
    assert await is_listed_once()
    await backend.cancel(JobFilter(ids=(job_id,)), reason="enough", now=NOW + MINUTE)
    assert await is_listed_once()


async def test_counting_what_no_index_knows_gives_up_after_so_many_jobs(backend, database_url, monkeypatch):
    rows = some_jobs(random.Random(2), 3_000)
    fill(database_url, rows)
    monkeypatch.setattr(listing, "MOST_LOOKED_AT", 1_000)
    page = await backend.find(JobQuery(filter=JobFilter(task="shop.send"), limit=10))
    assert page.total_is_exact is False
    assert 10 <= page.total <= 1_000
    missed = await backend.find(JobQuery(filter=JobFilter(task="none"), limit=10))
    assert (missed.jobs, missed.total, missed.total_is_exact) == ((), 0, False)


async def test_counting_stops_at_so_many(backend, database_url, monkeypatch):
    rows = some_jobs(random.Random(3), 3_000)
    fill(database_url, rows)
    for module in (listing, paging):
        monkeypatch.setattr(module, "MOST_COUNTED", 100)
    page = await backend.find(JobQuery(filter=JobFilter(worker_module="shop"), limit=10))
    assert (page.total, page.total_is_exact) == (100, False)
    deep = await backend.find(JobQuery(filter=JobFilter(worker_module="shop"), limit=10, offset=400))
    assert (len(deep.jobs), deep.total, deep.total_is_exact) == (10, 410, False)


async def test_the_time_of_a_cursor_may_be_of_any_zone_and_age(backend):
    await put_many(backend, 3)
    first = JobId("00000000-0000-0000-0000-000000000000")
    page = await backend.find(JobQuery(after=Cursor(value=datetime(2999, 1, 1, tzinfo=UTC), id=first), limit=1))
    assert page.jobs == (await backend.find(JobQuery(limit=1))).jobs


async def test_page_and_total_are_of_one_moment_while_jobs_come_and_move_on(backend, query):
    """What is committed between the statements of a list is in none of them."""
    await put_many(backend, 3)
    rows = listing.Transaction.rows
    statements = []

    async def rows_and_more(transaction, statement, values=None):
        found = await rows(transaction, statement, values)
        statements.append(statement)
        # Beside the list, after each of its statements.
        query("UPDATE job SET state = 4, node = 1, token = 'taken' WHERE state = 3")
        query("DELETE FROM job WHERE id = (SELECT id FROM job LIMIT 1)")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing.Transaction, "rows", rows_and_more)
        page = await backend.find(JobQuery())
    assert len(statements) == 3
    assert (len(page.jobs), page.total) == (3, 3)
    assert {job.state for job in page.jobs} == {State.PENDING}
    assert query("SELECT count(*) FROM job") == [(0,)]


async def test_a_list_that_takes_too_long_ends_with_the_deadline_of_its_call(backend, database_url):
    await put(backend)
    impatient = PostgresBackend(Address(conninfo=database_url, timeout=timedelta(seconds=0.5)))
    await impatient.open()
    try:
        with psycopg.connect(database_url, options="-c search_path=deeper") as other:
            other.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(BackendUnavailableError):
                await impatient.find(JobQuery())
        assert (await impatient.find(JobQuery())).total == 1
    finally:
        await impatient.close()
