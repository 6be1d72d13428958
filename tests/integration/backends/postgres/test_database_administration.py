"""What administrators do to a database under a worker: publications, rewrites, reindexing, event triggers, copies."""

import asyncio
import logging
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from datetime import timedelta

import psycopg
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, PostgresBackend, schema
from deeper_tasks.domain.finding import Severity
from deeper_tasks.errors import BackendError
from deeper_tasks.testing.conformance.builders import NOW, join, new_id, put, put_running, settle, take_all
from deeper_tasks.testing.conformance.schedules import HOURLY
from servers.postgres import PostgresServer

SETTINGS = {"wal_level": "logical", "wal_retrieve_retry_interval": "50ms", "max_sync_workers_per_subscription": "4"}

SYNCHRONISED = "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"


@pytest.fixture(scope="module")
def server(postgres_installation):
    """A server that replicates logically."""
    with closing(PostgresServer(postgres_installation, settings=SETTINGS)) as server:
        yield server


@pytest.fixture
def url(server):
    with server.new_database() as url:
        yield url


@pytest.fixture
def query(url):
    def query(statement, *values):
        with psycopg.connect(url, autocommit=True, options="-c search_path=deeper,public") as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    return query


@pytest.fixture
def copy_of(server):
    """Return a context that gives the URL of a logical copy, which follows inside, and exists as long as the test."""
    with ExitStack() as databases:

        @contextmanager
        def copy_of(url):
            copy_url = databases.enter_context(server.new_database())
            name = copy_url.rpartition("/")[2]
            with psycopg.connect(url, autocommit=True) as source, psycopg.connect(copy_url, autocommit=True) as copy:
                source.execute("CREATE PUBLICATION everything FOR ALL TABLES")
                source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
                # As pg_dump --schema-only would: our tables, and none of our rows.
                copy.execute(schema.script(Address(conninfo=copy_url), schema.known_migrations(), is_new=True))
                tables = copy.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'deeper'").fetchall()
                copy.execute(f"TRUNCATE {', '.join(f'deeper.{table}' for (table,) in tables)}")
                copy.execute(
                    f"CREATE SUBSCRIPTION {name} CONNECTION '{url}' PUBLICATION everything WITH (create_slot = off)"
                )
                try:
                    yield copy_url
                finally:
                    copy.execute(f"DROP SUBSCRIPTION {name}")

        yield copy_of


@asynccontextmanager
async def opened(url):
    backend = PostgresBackend(Address(conninfo=url))
    await backend.open(create=False)
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def backend(url):
    backend = PostgresBackend(Address(conninfo=url))
    await backend.open()
    yield backend
    await backend.close()


def tables_without_identity(query):
    """Return the tables of the schema whose rows a publication could not name."""
    return query(
        "SELECT relname FROM pg_class WHERE relnamespace = 'deeper'::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT (relreplident = 'f' OR EXISTS ("
        "SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary AND relreplident = 'd'))"
    )


async def of(backend, check):
    return [finding for finding in await backend.diagnose() if finding.check == check]


async def run_now(backend):
    return await backend.run_schedule(HOURLY.name, request_id=new_id(), now=NOW)


# publications


async def test_every_table_has_an_identity_and_every_row_survives_a_crash(backend, query):
    assert tables_without_identity(query) == []
    odd = "SELECT relname FROM pg_class WHERE relnamespace = 'deeper'::regnamespace AND relpersistence <> 'p'"
    assert query(odd) == []
    query("CREATE TABLE later (a text)")
    assert tables_without_identity(query) == [("later",)]


async def test_a_worker_does_all_its_work_under_a_publication_for_all_tables(url, query, working, wait_until):
    query("CREATE PUBLICATION everything FOR ALL TABLES")
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05, cleanup_interval_seconds=0.05) as manager:
        tried = []

        @manager.task(name="try", retry_delay_seconds=0.01, max_attempts=2)
        def fail_once():
            tried.append(1)
            if len(tried) == 1:
                raise ValueError("once")

        @manager.task(name="send")
        def send():
            return "sent"

        failing, late = await fail_once.enqueue(), await send.with_options(delay_seconds=0.05).enqueue()
        await manager.schedule_recurring_task("often", send, cron_expression="@every 1s")
        async with working(manager):
            assert await manager.result(late, timeout=60) == "sent"
            await manager.result(failing, timeout=60)
            await wait_until(lambda: query("SELECT 1 FROM schedule_run"))
            await wait_until(lambda: query("SELECT count(*) FROM move") == [(0,)])
            await manager.delete_task(late)
            findings = await manager.diagnose()
        assert [
            finding for finding in findings if finding.severity is Severity.ERROR and finding.check != "durability"
        ] == []


async def test_a_logical_copy_becomes_a_store_that_goes_on(url, backend, copy_of, wait_until):
    await backend.put_schedule(HOURLY, now=NOW)
    node = await join(backend)
    await settle(backend, [await put_running(backend, node, queue="running")])
    running = await put_running(backend, node, queue="running")
    await run_now(backend)
    with copy_of(url) as copy_url:
        # While it follows.
        await settle(backend, [await put_running(backend, node, queue="running")])
        await run_now(backend)
        await backend.fold()
        with psycopg.connect(copy_url, autocommit=True) as plain:
            await wait_until(lambda: plain.execute(SYNCHRONISED).fetchone() == (True,))
            # What was written before this one is there with it.
            last = await put(backend)
            await wait_until(lambda: plain.execute("SELECT 1 FROM deeper.job WHERE id = %s", [last]).fetchone())
        async with opened(copy_url) as copy:
            assert (await copy.statistics()).queues == (await backend.statistics()).queues
            assert await copy.schedule_runs(HOURLY.name) == await backend.schedule_runs(HOURLY.name)
    async with opened(copy_url) as copy:
        # Promoted: it is a store by itself, and numbers what it writes after what came with the copy.
        assert await run_now(copy)
        assert len(await copy.schedule_runs(HOURLY.name)) == 3
        assert {job.id for job in (await copy.rescue(node, beat=0)).jobs} == {running.id}
        again = await join(copy, "again")
        await settle(copy, await take_all(copy, again))
        assert await copy.fold() is False
        [finding] = [each for each in await copy.diagnose(deep=True) if each.check == "counters"]
        assert finding.message == "they equal a recount of all jobs"


async def test_a_table_that_lost_its_identity_or_its_log_is_a_finding(backend, query):
    query("ALTER TABLE move REPLICA IDENTITY NOTHING")
    [finding] = await of(backend, "replication")
    assert finding.severity is Severity.WARNING
    query("CREATE PUBLICATION everything FOR ALL TABLES")
    [finding] = await of(backend, "replication")
    assert (finding.severity, "deeper.move is published and has no" in finding.message) == (Severity.ERROR, True)
    query(finding.remedy.partition(": ")[2])
    assert await of(backend, "replication") == []
    query("DROP PUBLICATION everything")
    query("ALTER TABLE job SET UNLOGGED")
    [finding] = [each for each in await of(backend, "durability") if "unlogged" in each.message]
    assert (finding.severity, "deeper.job" in finding.message) == (Severity.ERROR, True)
    query(finding.remedy)
    assert not [each for each in await of(backend, "durability") if "unlogged" in each.message]


# what rewrites tables, and what watches it


@pytest.mark.parametrize(
    "statement",
    [
        "REINDEX SCHEMA deeper",
        "REINDEX TABLE CONCURRENTLY deeper.job",
        "VACUUM (FULL, ANALYZE) deeper.job, deeper.move, deeper.counter, deeper.node",
        "CLUSTER deeper.job USING job_pkey; CLUSTER",
        "ALTER TABLE deeper.job SET UNLOGGED; ALTER TABLE deeper.job SET LOGGED",
        "ALTER TABLE deeper.move SET UNLOGGED; ALTER TABLE deeper.move SET LOGGED",
        "ALTER TABLE deeper.job SET TABLESPACE pg_default; ANALYZE; DISCARD ALL",
    ],
)
async def test_work_goes_on_around_what_rewrites_the_tables(backend, query, statement):
    node = await join(backend)

    async def work():
        late = await put(backend, delay=timedelta(seconds=1))
        await settle(backend, [await put_running(backend, node, queue="running")])
        await backend.promote(now=NOW + timedelta(seconds=2))
        [job] = await take_all(backend, node)
        assert job.id == late
        await settle(backend, [job])
        await backend.fold()

    await work()
    for each in statement.split("; "):
        await asyncio.gather(asyncio.to_thread(query, each), *[work_of(backend, node, number) for number in range(3)])
    await work()
    assert not [
        each for each in await backend.diagnose(deep=True) if each.check in {"indexes", "counters"} and each.remedy
    ]


async def work_of(backend, node, number):
    for _ in range(3):
        await settle(backend, [await put_running(backend, node, queue=f"queue {number}")])


async def test_a_migration_passes_an_event_trigger_that_writes_what_is_done(url, query):
    query("CREATE TABLE public.audit (tag text, name text)")
    query(
        "CREATE FUNCTION public.audit() RETURNS event_trigger LANGUAGE plpgsql SET search_path = public AS "
        "'BEGIN INSERT INTO audit SELECT command_tag, object_identity FROM pg_event_trigger_ddl_commands(); END'"
    )
    query("CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION public.audit()")
    backend = PostgresBackend(Address(conninfo=url))
    assert await backend.migrate()
    assert ("deeper.job",) in query("SELECT name FROM public.audit WHERE tag = 'CREATE TABLE'")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "INSERT INTO audit VALUES (tg_tag)",
            'relation "audit" does not exist.*function .*audit.*SET search_path',
        ),
        ("RAISE EXCEPTION ''not on a Friday''", "not on a Friday.*function .*audit"),
    ],
)
async def test_a_migration_names_the_event_trigger_that_refuses_it(url, query, body, words):
    query("CREATE TABLE public.audit (tag text)")
    query(f"CREATE FUNCTION public.audit() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN {body}; END'")
    query("CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION public.audit()")
    with pytest.raises(BackendError, match=words) as caught:
        await PostgresBackend(Address(conninfo=url)).migrate()
    assert "deeper migrate" not in str(caught.value)


# upkeep


async def test_a_step_of_upkeep_that_fails_is_told_once_and_stops_no_other(url, query, working, wait_until, caplog):
    caplog.set_level(logging.DEBUG, "deeper_tasks")
    async with BackgroundTaskManager(url, poll_interval_seconds=0.02, cleanup_interval_seconds=0.02) as manager:
        send = manager.task(name="send")(lambda: "sent")
        await manager.open()
        query(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''row % is kept'', pg_backend_pid(); END'"
        )
        query("CREATE TRIGGER kept BEFORE DELETE ON move FOR EACH ROW EXECUTE FUNCTION refuse()")
        query("CREATE TRIGGER kept BEFORE DELETE ON counter FOR EACH ROW EXECUTE FUNCTION refuse()")
        query("INSERT INTO counter VALUES ('old', 6, 1, 1)")
        query("INSERT INTO unique_key VALUES ('old', gen_random_uuid(), now() - interval '1 hour')")
        async with working(manager):
            for _ in range(3):
                late = await send.with_options(delay_seconds=0.02).enqueue()
                assert await manager.result(late, timeout=60) == "sent"
            # What the clean-up does after the step that fails.
            await wait_until(lambda: query("SELECT 1 FROM unique_key") == [])
            failing = "met an unexpected error and goes on"
            await wait_until(lambda: caplog.text.count("folder of the counters met the same error again") > 2)
            assert caplog.text.count(f"the folder of the counters {failing}") == 1
            assert caplog.text.count(f"the pruner {failing}") == 1
            query("DROP FUNCTION refuse() CASCADE")
            await wait_until(lambda: "the folder of the counters works again" in caplog.text)
            await wait_until(lambda: query("SELECT 1 FROM move") == [])
