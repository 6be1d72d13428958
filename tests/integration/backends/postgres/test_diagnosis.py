"""The diagnosis of a database: what is wrong with its server, its transactions, its tables and the rights to them."""

import os
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
from deeper_tasks.backends.postgres.diagnosis import counters, server, snapshots, tables
from deeper_tasks.backends.protocol import Diagnosable
from deeper_tasks.domain.finding import Severity
from deeper_tasks.testing.conformance.builders import check_counters, join, new_job, put_many, put_running, settle

OK, WARNING, ERROR = Severity


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def query(database_url):
    """Run a statement in the database as its owner; returns the rows."""

    def query(statement, *values):
        with psycopg.connect(database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    return query


async def of(backend, check, **options):
    """Return the findings of one check."""
    return [finding for finding in await backend.diagnose(**options) if finding.check == check]


async def test_all_is_well_with_a_new_store_on_a_server_that_keeps_its_word(start_postgres):
    settings = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    backend = PostgresBackend(Address(conninfo=start_postgres(settings=settings).url))
    await backend.migrate()
    findings = await backend.diagnose(deep=True)
    assert isinstance(backend, Diagnosable)
    assert {finding.severity for finding in findings} == {OK}
    assert [finding.check for finding in findings] == [
        *("server", "server's clock", "durability", "connections", "long transactions", "hints"),
        *("rights", "space", "dead rows", "indexes", "counters"),
    ]


async def test_the_manager_tells_it_and_then_what_goes_on(store_url):
    async with BackgroundTaskManager(store_url) as manager:
        checks = [finding.check for finding in await manager.diagnose()]
    assert checks.index("server") < checks.index("counters") < checks.index("store") < checks.index("workers")


async def test_a_server_that_is_not_there_is_a_finding():
    [finding] = await PostgresBackend(Address(conninfo="postgresql://me:secret@127.0.0.1:1/shop")).diagnose()
    assert (finding.check, finding.severity) == ("database", ERROR)
    assert "no connection" in finding.message
    assert "secret" not in finding.message


async def test_a_database_without_our_schema_is_a_finding_and_gets_none(database_url, query):
    manager = BackgroundTaskManager(database_url)
    [finding] = await of(manager, "schema")
    assert "(schema 'deeper') holds no jobs of deeper_tasks; an enqueue or 'deeper migrate'" in finding.message
    await manager.close()
    assert query("SELECT to_regnamespace('deeper')") == [(None,)]


async def test_an_open_store_stays_open_and_a_closed_one_leaves_no_connection(backend, query, database_url):
    await backend.diagnose()
    await backend.insert([new_job()])
    await backend.close()
    await PostgresBackend(Address(conninfo=database_url)).diagnose()
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> ''"
    assert query(others) == [(0,)]


async def test_a_server_without_fsync_endangers_all(start_postgres):
    [finding] = await of(PostgresBackend(Address(conninfo=start_postgres().url)), "durability")
    assert finding.severity is ERROR
    assert finding.message.startswith("fsync and full_page_writes off")


async def test_commits_that_wait_for_no_disk_are_told(start_postgres):
    settings = {"fsync": "on", "full_page_writes": "on", "autovacuum": "off", "max_connections": "8"}
    url = start_postgres(settings=settings).url
    backend = PostgresBackend(Address(conninfo=url))
    [finding] = await of(backend, "durability")
    assert (finding.severity, "synchronous_commit is off" in finding.message) == (WARNING, True)
    [finding] = await of(backend, "autovacuum")
    assert finding.severity is ERROR
    [finding] = await of(backend, "connections")
    assert (finding.severity, finding.message) == (OK, "1 of 5 are in use")
    others = [psycopg.connect(url) for _ in range(3)]
    [finding] = await of(backend, "connections")
    assert finding.severity is WARNING
    assert finding.message.startswith("4 of 5 are in use")
    for other in others:
        other.close()


async def test_a_clock_that_differs_and_a_server_that_is_far_are_told(backend, monkeypatch):
    monkeypatch.setattr(server, "SELECT_CLOCK", f"{server.SELECT_CLOCK} - 60")
    monkeypatch.setattr(server, "_FAR", timedelta(0))
    [finding] = await of(backend, "server's clock")
    assert finding.severity is WARNING
    assert finding.message.startswith("1 min 0 s behind this machine's")
    [finding] = await of(backend, "server")
    assert finding.severity is WARNING


async def test_whoever_keeps_a_transaction_open_is_named(backend, database_url, monkeypatch):
    monkeypatch.setattr(snapshots, "LONG", timedelta(0))
    with psycopg.connect(database_url, application_name="report") as other:
        other.execute("SELECT pg_current_xact_id()")
        [finding] = await of(backend, "long transactions")
        assert finding.severity is WARNING
        assert f"session {other.info.backend_pid} of 'postgres' by 'report' is idle in transaction" in finding.message
        assert f"pg_terminate_backend({other.info.backend_pid})" in finding.remedy
    [finding] = await of(backend, "long transactions")
    assert finding.severity is OK


async def test_a_prepared_transaction_that_nobody_ends_is_named(start_postgres, monkeypatch):
    monkeypatch.setattr(snapshots, "LONG", timedelta(0))
    url = start_postgres(settings={"max_prepared_transactions": "2"}).url
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_current_xact_id()")
        other.execute("PREPARE TRANSACTION 'left behind'")
    [finding] = await of(PostgresBackend(Address(conninfo=url)), "long transactions")
    assert "the transaction 'left behind' of 'postgres' was prepared" in finding.message


async def test_a_replication_slot_that_stands_still_is_named(start_postgres, monkeypatch):
    server = start_postgres(settings={"wal_level": "logical"})
    server.execute("SELECT pg_create_logical_replication_slot('copy', 'test_decoding', false)")
    monkeypatch.setattr(snapshots, "SELECT_SLOTS", snapshots.SELECT_SLOTS.replace("age(xmin) >", "age(catalog_xmin) >"))
    monkeypatch.setattr(snapshots, "FAR_BEHIND", -1)
    [finding] = await of(PostgresBackend(Address(conninfo=server.url)), "long transactions")
    assert "the replication slot 'copy', which no client reads, is" in finding.message


async def test_dead_rows_that_nobody_removes_are_told(backend, query, monkeypatch, wait_until):
    monkeypatch.setattr(tables, "_MANY_DEAD", 10)
    query("ALTER TABLE deeper.job SET (autovacuum_enabled = off)")
    await put_many(backend, 40)
    query("UPDATE deeper.job SET priority = 1; UPDATE deeper.job SET priority = 2")
    [finding] = await of(backend, "autovacuum")
    assert (finding.severity, "deeper.job" in finding.message) == (ERROR, True)

    await backend.close()

    # Each session tells the server of what it did in its own time.
    async def told():
        [finding] = await of(backend, "dead rows")
        return finding if finding.severity is WARNING and "beside 40 live ones" in finding.message else None

    finding = await wait_until(told)
    assert finding.message.startswith("deeper.job has 80 dead rows beside 40 live ones; no autovacuum has come yet")


async def test_an_index_that_is_invalid_or_too_large_is_told(backend, query, monkeypatch):
    await put_many(backend, 10)
    query("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'deeper.job_due'::regclass")
    [finding] = await of(backend, "indexes")
    assert finding.severity is ERROR
    assert finding.remedy == 'REINDEX INDEX CONCURRENTLY "deeper".job_due'
    query(finding.remedy)
    [finding] = await of(backend, "indexes")
    assert finding.severity is OK
    monkeypatch.setattr(tables, "_LARGE", 0)
    assert {finding.severity for finding in await of(backend, "indexes")} == {WARNING}


async def test_moves_that_nobody_folds_are_told(backend, monkeypatch):
    monkeypatch.setattr(counters, "MANY_MOVES", 3)
    for _ in range(3):
        await backend.insert([new_job()])
    [finding] = await of(backend, "counters")
    assert (finding.severity, "run a worker" in finding.remedy) == (WARNING, True)
    assert await backend.fold() is False
    [finding] = await of(backend, "counters")
    assert finding.message == "0 moves behind"


async def test_counters_that_are_wrong_are_found_by_a_recount_and_mended_by_the_remedy(backend, query):
    node = await join(backend)
    await put_many(backend, 5)
    await settle(backend, [await put_running(backend, node, queue="o'clock")])
    query("DELETE FROM deeper.job WHERE id IN (SELECT id FROM deeper.job WHERE state = 3 LIMIT 2)")
    query("UPDATE deeper.counter SET count = count + 7 WHERE state = 6")
    query("INSERT INTO deeper.counter VALUES ('o''clock', 6, 0, 4) ON CONFLICT DO NOTHING")
    [finding] = await of(backend, "counters")
    assert finding.severity is OK
    [finding] = await of(backend, "counters", deep=True)
    assert finding.severity is ERROR
    assert "5 pending in 'default' and there are 3" in finding.message
    await put_many(backend, 3)
    query(finding.remedy)
    [finding] = await of(backend, "counters", deep=True)
    assert finding.message == "they equal a recount of all jobs"
    await check_counters(backend)


async def test_rights_that_are_missing_are_named_with_the_statements_that_give_them(backend, query, database_url):
    role = f"reader_{os.getpid()}"
    query(f"CREATE ROLE {role} LOGIN")
    try:
        stranger = PostgresBackend(Address(conninfo=f"{database_url}?options=-c%20role%3D{role}"))
        [finding] = await of(stranger, "rights")
        assert finding.message == f"to work, the user '{role}' lacks USAGE of the schema deeper"
        query(f"GRANT USAGE ON SCHEMA deeper TO {role}")
        [finding] = await of(stranger, "rights")
        assert "INSERT of deeper.counter" in finding.message
        query(finding.remedy.removeprefix("as the owner 'postgres': "))
        [finding] = await of(stranger, "rights")
        assert (
            finding.message
            == f"the user '{role}' may look and enqueue and work; the schema belongs to 'postgres', who migrates it"
        )
        await stranger.open()
        await stranger.insert([new_job()])
        [finding] = await of(stranger, "long transactions")
        assert finding.message.endswith("of this user; to see those of others: GRANT pg_read_all_stats")
        await stranger.close()
    finally:
        query(f"DROP OWNED BY {role}")
        query(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("statement", "where", "remedy"),
    [
        ("ALTER DATABASE {database} SET default_transaction_read_only = on", "for the database", "ALTER DATABASE"),
        (
            "ALTER ROLE postgres IN DATABASE {database} SET default_transaction_read_only = on",
            "for the user in this database",
            'ALTER ROLE "postgres" IN DATABASE "{database}" RESET default_transaction_read_only',
        ),
    ],
)
async def test_sessions_that_only_read_are_told_with_the_way_to_mend_it(database_url, query, statement, where, remedy):
    database = database_url.rpartition("/")[2]
    await PostgresBackend(Address(conninfo=database_url)).migrate()
    query(statement.format(database=database))
    backend = PostgresBackend(Address(conninfo=database_url))
    [finding] = await of(backend, "writing")
    assert finding.severity is ERROR
    assert f"(default_transaction_read_only is on, set {where})" in finding.message
    assert remedy.format(database=database) in finding.remedy


async def test_how_the_sessions_write_moments_and_durations_is_no_matter(database_url, query):
    database = database_url.rpartition("/")[2]
    for name, value in {"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Tokyo"}.items():
        query(f"ALTER DATABASE {database} SET {name} = '{value}'")
    await PostgresBackend(Address(conninfo=database_url)).migrate()
    for pooler in Pooler:
        findings = await PostgresBackend(Address(conninfo=database_url, pooler=pooler)).diagnose(deep=True)
        assert {finding.severity for finding in findings if finding.check != "durability"} == {OK}


@pytest.mark.parametrize(
    ("user", "port", "advice"),
    [("nobody_of_this_name", None, "turns this session away: see to the user"), ("postgres", 1, "and the network")],
)
async def test_a_server_that_lets_none_in_is_told_once_with_advice_that_fits(database_url, user, port, advice):
    parts = urlsplit(database_url)
    url = parts._replace(netloc=f"{user}@{parts.hostname}:{port or parts.port}").geturl()
    wrong = [each for each in await BackgroundTaskManager(url).diagnose() if each.severity is not OK]
    assert [each.check for each in wrong] == ["database"]
    assert advice in wrong[0].remedy
