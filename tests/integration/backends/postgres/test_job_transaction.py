"""A job's transaction: what a handler does in it is there with the completion, and only the worker ends it."""

import asyncio
import inspect
import os
import threading
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendError, BackendUnavailableError, JobNotCompletedError, TransactionError
from deeper_tasks.testing.conformance.builders import (
    NOW,
    join,
    new_job,
    only,
    put_running,
    settle,
    settlement,
    state_of,
)

PATIENCE = 30


async def done(answer):
    return await answer if inspect.isawaitable(answer) else answer


@pytest.fixture(autouse=True)
def ledger(query):
    query("CREATE TABLE public.ledger (entry text)")


@pytest.fixture
def entries(query):
    return lambda: [entry for (entry,) in query("SELECT entry FROM public.ledger ORDER BY entry")]


@pytest.fixture(params=["async", "thread"])
def begin(request, backend):
    async def begin(**options):
        return await backend.begin(is_async=request.param == "async", now=NOW, **options)

    return begin


@pytest.fixture
async def job(backend):
    return await put_running(backend, await join(backend))


async def write(transaction, entry):
    await done(transaction.connection.execute("INSERT INTO ledger VALUES (%s)", (entry,)))


@pytest.fixture
def all_gone(query, wait_until):
    """Return a wait until no session is inside a transaction any more."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    )

    async def all_gone():
        await wait_until(lambda: query(busy) == [(0,)], seconds=PATIENCE)

    return all_gone


@pytest.fixture
def has_session(query, wait_until):
    """Return a wait until a session waits for an event, or one of a type."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND %s IN (wait_event, wait_event_type)"
    )

    async def has_session(event):
        await wait_until(lambda: query(waiting, event), seconds=PATIENCE)

    return has_session


# what the handler has


async def test_it_sees_the_tables_of_its_user_in_a_session_of_its_own_settings(begin):
    transaction = await begin()
    cursor = await done(
        transaction.connection.execute(
            "SELECT current_setting('search_path'), current_setting('statement_timeout'), "
            "current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_isolation')"
        )
    )
    assert await done(cursor.fetchone()) == ('"$user", public', "0", "0", "read committed")
    await transaction.rollback()


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_connection_is_of_the_kind_that_suits_the_handler(backend, is_async):
    transaction = await backend.begin(is_async=is_async)
    assert isinstance(transaction.connection, psycopg.AsyncConnection if is_async else psycopg.Connection)
    await transaction.rollback()


async def test_savepoints_undo_a_part_that_fails(backend, job, entries):
    transaction = await backend.begin(is_async=True)
    connection = transaction.connection
    await write(transaction, "kept")
    with suppress(psycopg.errors.DivisionByZero):
        async with connection.transaction():
            await write(transaction, "undone")
            await connection.execute("SELECT 1 / 0")
    await connection.execute("SAVEPOINT mine")
    await write(transaction, "undone too")
    await connection.execute("ROLLBACK TO SAVEPOINT mine")
    await connection.execute("rollback work to mine")
    async with connection.pipeline():
        await write(transaction, "by a pipeline")
    async with connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO ledger VALUES (%s)", [("many",), ("more",)])
        async with cursor.copy("COPY ledger FROM STDIN") as copy:
            await copy.write_row(("by a copy",))
    assert await transaction.complete(settlement(job))
    assert entries() == ["by a copy", "by a pipeline", "kept", "many", "more"]


async def test_savepoints_work_in_a_thread_too(backend, job, entries):
    transaction = await backend.begin(is_async=False)

    def handle():
        connection = transaction.connection
        connection.execute("INSERT INTO ledger VALUES ('kept')")
        with suppress(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("INSERT INTO ledger VALUES ('undone')")
            connection.execute("SELECT 1 / 0")

    await asyncio.to_thread(handle)
    assert await transaction.complete(settlement(job))
    assert entries() == ["kept"]


async def test_what_the_handler_sets_on_its_connection_does_not_reach_the_completion(begin, job, backend, entries):
    transaction = await begin()
    connection = transaction.connection
    connection.row_factory = dict_row
    connection.prepare_threshold = 0
    for entry in ("one", "two"):
        await write(transaction, entry)
    await done(connection.execute("SET LOCAL search_path TO nowhere"))
    await done(connection.execute("SET LOCAL array_nulls TO off"))
    assert await transaction.complete(settlement(job))
    assert entries() == ["one", "two"]


async def test_transactions_take_no_place_of_the_stores_pool(database_url, backend, query):
    small = PostgresBackend(Address(conninfo=database_url, pool_size=1))
    await small.open()
    try:
        transactions = [await small.begin(is_async=True) for _ in range(5)]
        async with asyncio.timeout(PATIENCE):
            assert (await small.find(JobQuery())).total == 0
        for transaction in transactions:
            await transaction.rollback()
    finally:
        await small.close()


# what it cannot do


@pytest.mark.parametrize(
    "statement",
    ["COMMIT", "commit and chain", "END", "ABORT", " /* now */ ROLLBACK", "-- now\nROLLBACK WORK", b"commit"],
)
async def test_no_statement_that_ends_it_gets_through(begin, job, statement, entries):
    transaction = await begin()
    await write(transaction, "paid")
    with pytest.raises(TransactionError, match="cannot end its job's transaction by"):
        await done(transaction.connection.execute(statement))
    with pytest.raises(TransactionError, match="cannot end its job's transaction by"):
        await done(transaction.connection.cursor().execute(sql.SQL("{}").format(sql.SQL("COMMIT"))))
    assert entries() == []
    assert await transaction.complete(settlement(job))
    assert entries() == ["paid"]


@pytest.mark.parametrize("method", ["commit", "rollback", "close", "set_autocommit"])
async def test_no_method_of_the_connection_does_either(begin, job, method, entries):
    transaction = await begin()
    await write(transaction, "paid")
    with pytest.raises(TransactionError, match="leave that to the worker"):
        await done(getattr(transaction.connection, method)(*([True] if method == "set_autocommit" else [])))
    assert await transaction.complete(settlement(job))
    assert entries() == ["paid"]


async def test_it_is_no_context_of_its_own(backend):
    transaction = await backend.begin(is_async=True)
    with pytest.raises(TransactionError, match="leave it out"):
        async with transaction.connection:
            pytest.fail("it was entered")
    await transaction.rollback()
    transaction = await backend.begin(is_async=False)
    with pytest.raises(TransactionError, match="leave it out"), transaction.connection:
        pytest.fail("it was entered")
    await transaction.rollback()


async def test_who_ends_it_in_spite_of_all_gets_no_further_and_the_job_is_not_completed(begin, job, backend, entries):
    transaction = await begin()
    assert transaction.spoiled is None
    await done(transaction.connection.execute("INSERT INTO ledger VALUES ('paid'); COMMIT"))
    assert isinstance(transaction.spoiled, TransactionError)
    with pytest.raises(TransactionError, match="ended before"):
        await write(transaction, "more")
    with pytest.raises(TransactionError, match="ended before"):
        await transaction.complete(settlement(job))
    assert entries() == ["paid"]
    assert await state_of(backend, job.id) is State.RUNNING


async def test_another_transaction_in_its_place_is_told_from_it(begin, job, backend, entries):
    transaction = await begin()
    await done(transaction.connection.execute("INSERT INTO ledger VALUES ('paid'); COMMIT AND CHAIN"))
    await write(transaction, "more")
    with pytest.raises(TransactionError, match="ended before"):
        await transaction.complete(settlement(job))
    assert entries() == ["paid"]
    assert await state_of(backend, job.id) is State.RUNNING


async def test_a_swallowed_error_of_the_server_is_told_with_its_way_out(begin, job, entries):
    transaction = await begin()
    await write(transaction, "paid")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await done(transaction.connection.execute("SELECT * FROM nowhere"))
    with pytest.raises(BackendError, match=r"with connection\.transaction") as raised:
        await transaction.complete(settlement(job))
    assert not isinstance(raised.value, BackendUnavailableError)
    assert entries() == []


async def test_a_copy_that_was_left_open_completes_nothing(backend, job, entries, all_gone):
    transaction = await backend.begin(is_async=True)
    copying = transaction.connection.cursor().copy("COPY ledger FROM STDIN")
    copy = await copying.__aenter__()
    await copy.write_row(("half",))
    with pytest.raises(TransactionError, match="still open"):
        await transaction.complete(settlement(job))
    await all_gone()
    assert entries() == []
    with pytest.raises((TransactionError, psycopg.Error)):
        await copying.__aexit__(None, None, None)


async def test_a_constraint_that_is_checked_at_the_commit_refuses_it(begin, job, backend, query, entries):
    query("ALTER TABLE public.ledger ADD CONSTRAINT once UNIQUE (entry) DEFERRABLE INITIALLY DEFERRED")
    query("INSERT INTO public.ledger VALUES ('paid')")
    transaction = await begin()
    await write(transaction, "paid")
    with pytest.raises(BackendError, match="once") as raised:
        await transaction.complete(settlement(job))
    assert not isinstance(raised.value, BackendUnavailableError)
    assert await state_of(backend, job.id) is State.RUNNING
    assert entries() == ["paid"]


# others


async def test_a_repeated_settlement_does_not_pass_for_the_completion(begin, job, backend, entries):
    transaction = await begin()
    await write(transaction, "paid twice")
    await settle(backend, [job], End.COMPLETE)
    assert await transaction.complete(settlement(job)) is None
    assert entries() == []


async def test_it_waits_for_who_holds_the_jobs_row_and_then_asks_whether_the_token_holds(
    begin, job, database_url, has_session, entries
):
    transaction = await begin()
    await write(transaction, "paid")
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("UPDATE deeper.job SET token = 'another' WHERE id = %s", [job.id])
        completing = asyncio.create_task(transaction.complete(settlement(job)))
        await has_session("Lock")
        await other.commit()
    assert await completing is None
    assert entries() == []


async def test_who_holds_the_row_for_too_long_fails_the_attempt(job, database_url, backend, entries):
    hasty = PostgresBackend(Address(conninfo=database_url, timeout=timedelta(seconds=1)))
    await hasty.open()
    try:
        transaction = await hasty.begin(is_async=True)
        await write(transaction, "paid")
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("SELECT FROM deeper.job WHERE id = %s FOR UPDATE", [job.id])
            with pytest.raises(BackendUnavailableError):
                await transaction.complete(settlement(job))
    finally:
        await hasty.close()
    assert entries() == []
    assert await state_of(backend, job.id) is State.RUNNING


async def test_the_hints_of_what_it_enqueues_leave_with_the_commit(begin, job, backend, database_url):
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute('LISTEN "deeper_deeper"')
        transaction = await begin()
        await backend.insert([new_job(queue="mail")], connection=transaction.connection, now=NOW)
        assert [hint async for hint in listener.notifies(timeout=0.2, stop_after=1)] == []
        assert await transaction.complete(settlement(job))
        assert [hint.payload async for hint in listener.notifies(timeout=PATIENCE, stop_after=1)] == ["jobs:mail"]


# broken off


async def test_a_lost_session_breaks_it_and_nothing_was_done(begin, job, backend, query, entries):
    transaction = await begin()
    await write(transaction, "paid")
    assert transaction.broken is None
    query("SELECT pg_terminate_backend(%s)", transaction.connection.info.backend_pid)
    with pytest.raises(psycopg.OperationalError):
        await write(transaction, "more")
    assert isinstance(transaction.broken, BackendUnavailableError)
    await transaction.rollback()
    assert entries() == []


async def test_a_session_that_was_lost_unnoticed_fails_the_completion(begin, job, query, entries):
    transaction = await begin()
    await write(transaction, "paid")
    query("SELECT pg_terminate_backend(%s)", transaction.connection.info.backend_pid)
    with pytest.raises(BackendUnavailableError):
        await transaction.complete(settlement(job))
    assert entries() == []


@pytest.mark.parametrize("end", ["interrupt", "rollback"])
async def test_a_statement_in_a_thread_is_broken_off(backend, has_session, all_gone, entries, end):
    transaction = await backend.begin(is_async=False)
    errors = []

    def handle():
        try:
            transaction.connection.execute("INSERT INTO ledger SELECT 'paid' FROM pg_sleep(600)")
        except psycopg.Error as error:
            errors.append(type(error))

    thread = threading.Thread(target=handle)
    thread.start()
    await has_session("PgSleep")
    if end == "interrupt":
        transaction.interrupt()
        await asyncio.to_thread(thread.join, PATIENCE)
    await transaction.rollback()
    await asyncio.to_thread(thread.join, PATIENCE)
    assert errors == [psycopg.errors.QueryCanceled]
    await all_gone()
    assert entries() == []


async def test_a_limit_rolls_it_back_whatever_the_handler_does(begin, job, wait_until, all_gone, entries):
    transaction = await begin(limit=timedelta(milliseconds=100))
    await write(transaction, "paid")
    await wait_until(lambda: transaction.broken, seconds=PATIENCE)
    assert isinstance(transaction.broken, TimeoutError)
    with pytest.raises((TransactionError, psycopg.Error)):
        await write(transaction, "more")
    with pytest.raises(TransactionError):
        await transaction.complete(settlement(job))
    await transaction.rollback()
    await all_gone()
    assert entries() == []


async def test_a_store_that_closes_ends_what_is_open(begin, backend, all_gone, entries):
    transaction = await begin()
    await write(transaction, "paid")
    await backend.close()
    await all_gone()
    await transaction.rollback()
    assert entries() == []
    with pytest.raises(BackendUnavailableError):
        await begin()


async def test_a_server_that_takes_no_other_connection_begins_none(database_url, begin, postgres):
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(database_url.rpartition("/")[2])
    postgres.execute(allow.format(name, sql.Literal(False)))
    try:
        with pytest.raises(BackendUnavailableError, match="no connection for a job's transaction"):
            await begin()
    finally:
        postgres.execute(allow.format(name, sql.Literal(True)))


async def test_a_child_of_a_fork_leaves_its_parents_session_alone(begin, job, entries):
    transaction = await begin()
    await write(transaction, "paid")
    child = os.fork()
    if not child:
        os._exit(0 if transaction.connection.closed else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await transaction.complete(settlement(job))
    assert entries() == ["paid"]


async def test_what_the_completion_deletes_is_gone_with_its_job(begin, job, backend):
    transaction = await begin()
    assert await transaction.complete(settlement(job))
    assert await backend.delete(only(job.id)) == [job.id]


# the worker


@pytest.fixture
async def manager(database_url):
    async with BackgroundTaskManager(database_url, poll_interval_seconds=0.05) as manager:
        yield manager


@pytest.mark.parametrize("then", ["raise", "return"])
async def test_a_job_whose_handler_commits_in_spite_of_all_fails_and_is_not_tried_again(
    manager, working, entries, then
):
    @manager.task(name="pay", transactional=True, max_attempts=5, retry_delay_seconds=0)
    async def pay():
        await current_job().connection.execute("INSERT INTO ledger VALUES ('paid'); COMMIT")
        if then == "raise":
            raise ValueError

    async with working(manager):
        job = await pay.enqueue()
        with pytest.raises(JobNotCompletedError, match="ended before its task returned"):
            await manager.result(job, timeout=PATIENCE)
    status = await manager.get_task_status(job)
    assert (status.status, status.attempts) == (State.FAILED, 1)
    assert entries() == ["paid"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_job_whose_session_is_lost_is_tried_again_whatever_it_retries_on(
    manager, working, query, entries, is_async
):
    def pay_in_thread():
        connection = current_job().connection
        connection.execute("INSERT INTO ledger VALUES ('paid')")
        if current_job().attempt == 1:
            query("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
            connection.execute("SELECT 1")

    async def pay():
        connection = current_job().connection
        await connection.execute("INSERT INTO ledger VALUES ('paid')")
        if current_job().attempt == 1:
            query("SELECT pg_terminate_backend(%s)", connection.info.backend_pid)
            await connection.execute("SELECT 1")

    options = {"transactional": True, "max_attempts": 2, "retry_delay_seconds": 0, "retry_on": ZeroDivisionError}
    task = manager.task(name="pay", **options)(pay if is_async else pay_in_thread)
    async with working(manager):
        await manager.result(job := await task.enqueue(), timeout=PATIENCE)
    status = await manager.get_task_status(job)
    assert [error.kind for error in status.errors] == ["BackendUnavailableError"]
    assert entries() == ["paid"]


async def test_a_statement_in_a_thread_that_outlasts_the_timeout_is_cancelled(manager, working, entries):
    @manager.task(name="pay", transactional=True, max_attempts=1, timeout_seconds=0.5)
    def pay():
        current_job().connection.execute("INSERT INTO ledger SELECT 'paid' FROM pg_sleep(600)")

    async with working(manager):
        job = await pay.enqueue()
        with pytest.raises(JobNotCompletedError):
            await manager.result(job, timeout=PATIENCE)
    assert "TimeoutError" in (await manager.get_task_status(job)).last_error
    assert entries() == []
