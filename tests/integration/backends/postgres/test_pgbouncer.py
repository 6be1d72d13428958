"""A manager behind a PgBouncer: works by polling, by hints around it, and is told what is missing where that shows."""

import logging

import psycopg
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import BackendUnavailableError
from servers.waiting import PATIENCE

_WAY_OUT = r"unsupported startup parameter.*; if a pooler .* stands between, add \?pooler=transaction"


@pytest.fixture
def pooled_url(start_pgbouncer, database_url):
    # One session for all: who leaves something in it, or needs it for long, is found out.
    return start_pgbouncer(database_url, settings={"default_pool_size": "1"}).url


@pytest.fixture
def greet():
    def greet(name):
        return f"hello {name}"

    return greet


async def test_a_worker_runs_jobs_by_polling(pooled_url, working, greet):
    async with BackgroundTaskManager(f"{pooled_url}?pooler=transaction", poll_interval_seconds=0.05) as manager:
        task = manager.task(name="greet")(greet)
        async with working(manager):
            jobs = [await task.enqueue(name) for name in ("Ada", "Kurt")]
            assert [await manager.result(job, timeout=PATIENCE) for job in jobs] == ["hello Ada", "hello Kurt"]
        assert (await manager.get_statistics()).queues["default"].completed_today == 2


async def test_a_worker_that_hardly_ever_polls_is_woken_around_the_pooler(pooled_url, database_url, working, greet):
    url = f"{pooled_url}?pooler=transaction"
    async with (
        BackgroundTaskManager(url, listen_url=database_url, poll_interval_seconds=3600) as manager,
        # An application that only enqueues needs no way around.
        BackgroundTaskManager(url) as producer,
    ):
        task = manager.task(name="greet")(greet)
        async with working(manager):
            for name in ("Ada", "Kurt"):
                job = await producer.enqueue_task(task, args=[name])
                assert await manager.result(job, timeout=PATIENCE) == f"hello {name}"


async def test_a_pooler_that_the_url_does_not_tell_of_is_recognised(pooled_url):
    manager = BackgroundTaskManager(pooled_url)
    with pytest.raises(BackendUnavailableError, match=_WAY_OUT):
        await manager.open()
    await manager.close()


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        # In each of its sessions, for the next may be another one's.
        ("PREPARE _pg3_9 AS SELECT 1; PREPARE _pg3_9 AS SELECT 1", psycopg.errors.DuplicatePreparedStatement),
        ("EXECUTE _pg3_9", psycopg.errors.InvalidSqlStatementName),
    ],
)
async def test_statements_that_a_pooler_mixed_up_tell_of_it_too(database_url, statement, error):
    async with BackgroundTaskManager(f"{database_url}?pool_size=1") as manager:
        database = manager.backend._database
        with pytest.raises(
            BackendUnavailableError, match=r"no longer has the prepared statements.*add \?pooler=transaction"
        ) as caught:
            await database.ask(lambda connection: connection.execute(statement))
        assert isinstance(caught.value.__cause__, error)


async def test_a_way_around_that_leads_to_a_pooler_is_told_of_once(pooled_url, working, greet, caplog, wait_until):
    async with BackgroundTaskManager(
        f"{pooled_url}?pooler=transaction", listen_url=pooled_url, poll_interval_seconds=0.05
    ) as manager:
        task = manager.task(name="greet")(greet)
        async with working(manager):
            await wait_until(lambda: "listen_url that leads around the pooler" in caplog.text, seconds=PATIENCE)
            assert await manager.result(await task.enqueue("Ada"), timeout=PATIENCE) == "hello Ada"
    told = [record for record in caplog.records if "no hints from" in record.message]
    assert [record.levelno for record in told if record.levelno > logging.DEBUG] == [logging.WARNING]


async def test_through_a_pooler_of_whole_sessions_hints_are_heard(start_pgbouncer, database_url, working, greet):
    settings = {"pool_mode": "session", "ignore_startup_parameters": "options"}
    url = start_pgbouncer(database_url, settings=settings).url
    async with BackgroundTaskManager(url, poll_interval_seconds=3600) as manager:
        task = manager.task(name="greet")(greet)
        async with working(manager):
            for name in ("Ada", "Kurt"):
                assert await manager.result(await task.enqueue(name), timeout=PATIENCE) == f"hello {name}"
