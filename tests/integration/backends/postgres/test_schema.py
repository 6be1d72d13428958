"""The schema: made once whoever comes first, brought up to date under those who run, refused when it is newer."""

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest

from deeper_tasks.backends.migrations import Migration
from deeper_tasks.backends.postgres import Address, PostgresBackend, schema
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendError, BackendUnavailableError, SchemaError
from deeper_tasks.testing.conformance.builders import join, new_job, put_running, settle
from servers.installation import installations

KNOWN = tuple(step.name for step in schema.known_migrations())
LATER = Migration(
    name="9998_later",
    sql="ALTER TABLE job ADD COLUMN weight integer NOT NULL DEFAULT 1; CREATE TABLE later (a text);"
    "CREATE FUNCTION claim_2(_queue text) RETURNS text LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT _queue';",
)
BROKEN = Migration(name="9998_broken", sql="CREATE TABLE later (a text); CREATE TABLE later (a text);")
_OPEN = """
import asyncio, sys
from deeper_tasks.backends.postgres import Address, PostgresBackend

async def main():
    backend = PostgresBackend(Address(conninfo=sys.argv[1]))
    await getattr(backend, sys.argv[2])()
    await backend.close()

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


@pytest.fixture
def with_migration(monkeypatch):
    """Return a way to have the code carry one more migration."""
    known = schema.known_migrations()
    return lambda more: monkeypatch.setattr(schema, "known_migrations", lambda: [*known, more])


@pytest.fixture
def query(database_url):
    """Run a statement in the database as its owner; returns the rows."""

    def query(statement, *values):
        with psycopg.connect(database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    return query


@contextmanager
def without_create(query, database_url, role):
    """A user who can connect, and make nothing; gives the URL."""
    query(f"CREATE ROLE {role} LOGIN")
    try:
        yield f"{database_url}?options=-c%20role%3D{role}"
    finally:
        query(f"DROP OWNED BY {role}")
        query(f"DROP ROLE {role}")


def tables(query):
    """The tables and functions of all schemas but the server's own."""
    return query(
        "SELECT relname FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid "
        "WHERE nspname !~ '^(pg_|information_schema)' UNION ALL "
        "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|public)' ORDER BY 1"
    )


def test_the_migrations_are_numbered_and_in_order():
    assert list(KNOWN) == sorted(KNOWN)
    assert [int(name[:4]) for name in KNOWN] == list(range(1, len(KNOWN) + 1))


async def test_migrating_an_empty_database_applies_all_and_again_none(database_url, query):
    backend = PostgresBackend(Address(conninfo=database_url))
    assert await backend.migrate() == KNOWN
    assert await backend.migrate() == ()
    await backend.open()
    assert await backend.migrate() == ()
    await backend.close()
    assert [name for (name,) in query("SELECT name FROM deeper.migration ORDER BY name")] == list(KNOWN)


async def test_names_of_queues_are_in_the_order_of_code_points_in_a_database_of_any_language(database_url, query):
    # Few servers for tests have another language; a pattern is a range of names in this order.
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.migrate()
    await backend.close()
    rows = query(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'deeper' AND collation_name = 'C'"
    )
    assert {("job", "queue"), ("counter", "queue"), ("move", "queue"), ("queue", "name")} <= set(rows)


@pytest.mark.parametrize("method", ["open", "migrate"])
def test_many_processes_that_come_first_at_once_make_one_schema(method, database_url, query):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, database_url, method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=100)
        assert (process.returncode, said) == (0, "")
    assert query("SELECT count(*), count(DISTINCT name) FROM deeper.migration") == [(len(KNOWN), len(KNOWN))]
    assert query("SELECT count(*) FROM deeper.store") == [(1,)]


async def test_many_first_opens_in_one_process_make_one_schema(database_url, query):
    backends = [PostgresBackend(Address(conninfo=database_url)) for _ in range(8)]
    await asyncio.gather(*(backend.open() for backend in backends))
    assert query("SELECT count(*) FROM deeper.migration") == [(len(KNOWN),)]
    for backend in backends:
        await backend.close()


async def test_stores_in_several_schemas_of_a_database_know_nothing_of_each_other(database_url):
    red, blue = (PostgresBackend(Address(conninfo=database_url, schema=name)) for name in ("red", "order"))
    await red.open()
    await blue.open()
    [insertion] = await red.insert([new_job()])
    assert await blue.get(insertion.id) is None
    assert (await red.get(insertion.id)) is not None
    await red.close()
    await blue.close()


async def test_who_only_looks_makes_no_schema(database_url, query):
    backend = PostgresBackend(Address(conninfo=database_url))
    with pytest.raises(SchemaError, match="holds no jobs of deeper_tasks; an enqueue or 'deeper migrate' prepares it"):
        await backend.open(create=False)
    assert tables(query) == []


async def test_an_older_schema_is_left_alone_until_it_is_migrated(database_url, query, with_migration):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    await backend.close()
    with_migration(LATER)
    with pytest.raises(SchemaError, match="lacks the migrations 9998_later; run 'deeper migrate'"):
        await backend.open()
    assert await backend.migrate() == ("9998_later",)
    await backend.open()
    await backend.close()
    assert query("SELECT count(*) FROM deeper.later") == [(0,)]


async def test_workers_of_the_release_before_run_on_while_a_later_one_migrates(database_url, with_migration):
    before = PostgresBackend(Address(conninfo=database_url))
    await before.open()
    node = await join(before)
    # Each of its statements is prepared by now.
    jobs = [await put_running(before, node) for _ in range(3)]
    with_migration(LATER)
    assert await PostgresBackend(Address(conninfo=database_url)).migrate() == ("9998_later",)
    assert {one.state for one in await settle(before, jobs, End.RETRY)} == {State.RETRYABLE}
    [settled] = await settle(before, [await put_running(before, node)])
    assert (await before.get(settled.id)).state is State.COMPLETED
    assert (await before.beat(node)).held == {}
    await before.close()


async def test_a_migration_that_fails_leaves_nothing(database_url, query, with_migration):
    with_migration(BROKEN)
    with pytest.raises(BackendError, match="later"):
        await PostgresBackend(Address(conninfo=database_url)).migrate()
    assert tables(query) == []


async def test_a_migration_that_is_broken_off_leaves_nothing(database_url, query, with_migration, wait_until):
    with_migration(Migration(name="9998_long", sql="CREATE TABLE later (a text); SELECT pg_sleep(600);"))
    migrating = asyncio.create_task(PostgresBackend(Address(conninfo=database_url)).migrate())
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    await wait_until(lambda: query(end))
    with pytest.raises(BackendUnavailableError, match="terminating connection"):
        await migrating
    assert tables(query) == []


async def test_a_migration_gives_up_when_a_table_stays_locked(database_url, query, with_migration, monkeypatch):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.migrate()
    with_migration(LATER)
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "10ms")
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM deeper.job")
        with pytest.raises(BackendUnavailableError, match=r"see 'deeper doctor'.*lock timeout"):
            await backend.migrate()
    assert query("SELECT count(*) FROM deeper.migration") == [(len(KNOWN),)]
    assert await backend.migrate() == ("9998_later",)


async def test_a_newer_schema_is_refused_and_not_changed(database_url, query):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.migrate()
    query("INSERT INTO deeper.migration (name) VALUES ('9999_tomorrow')")
    for attempt in (backend.open, backend.migrate, backend.migration_script):
        with pytest.raises(SchemaError, match="9999_tomorrow, which this version does not know; upgrade"):
            await attempt()
    assert query("SELECT count(*) FROM deeper.migration") == [(len(KNOWN) + 1,)]


async def test_a_database_in_another_encoding_is_refused(postgres, query):
    postgres.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        with pytest.raises(SchemaError, match=r"keeps text as LATIN1.*ENCODING 'UTF8'"):
            await PostgresBackend(Address(conninfo=postgres.url_of("latin"))).open()
    finally:
        postgres.execute("DROP DATABASE latin WITH (FORCE)")


async def test_a_user_who_may_not_make_the_schema_is_told_what_to_do(database_url, query):
    with without_create(query, database_url, f"maker_{os.getpid()}") as url:
        backend = PostgresBackend(Address(conninfo=url))
        with pytest.raises(SchemaError, match=r"may not create the schema: permission denied.*deeper migrate --sql"):
            await backend.open()
        with pytest.raises(BackendError, match=r"permission denied.*deeper migrate --sql"):
            await backend.migrate()
        assert tables(query) == []


async def test_a_user_without_rights_in_the_schema_is_told_so(database_url, query):
    await PostgresBackend(Address(conninfo=database_url)).migrate()
    with (
        without_create(query, database_url, f"nobody_{os.getpid()}") as url,
        pytest.raises(
            BackendError, match=r"schema deeper; the user '\w+' lacks its USAGE; as the owner 'postgres': GRANT"
        ),
    ):
        await PostgresBackend(Address(conninfo=url)).open()


async def test_the_script_is_what_an_empty_database_needs_with_and_without_a_look_at_it(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    script = await backend.migration_script()
    assert script == await backend.migration_script(is_whole=True)
    assert script.startswith("BEGIN;")
    assert script.endswith("COMMIT;\n")
    unreachable = PostgresBackend(Address(conninfo="postgresql://nobody@127.0.0.1:1/none"))
    assert await unreachable.migration_script(is_whole=True) == script
    with pytest.raises(BackendUnavailableError):
        await unreachable.migration_script()
    await backend.migrate()
    assert await backend.migration_script() == ""


@pytest.mark.parametrize("name", ["deeper", "order"])
async def test_psql_runs_the_script_as_it_is_printed_and_then_the_rest(name, database_url, query, with_migration):
    programs = [each.bin / "psql" for each in installations() if (each.bin / "psql").exists()]
    if not programs:
        pytest.skip("psql is not installed")

    def psql(script):
        command = [programs[0], "-X", "-q", "-v", "ON_ERROR_STOP=1", database_url]
        return subprocess.run(command, input=script, text=True, capture_output=True, timeout=100, check=False)

    backend = PostgresBackend(Address(conninfo=database_url, schema=name))
    script = await backend.migration_script()
    done = psql(script)
    assert (done.returncode, done.stderr) == (0, "")
    with_migration(LATER)
    rest = await backend.migration_script()
    assert "9998_later" in rest
    assert "0001" not in rest
    assert psql(rest).returncode == 0
    assert await backend.migrate() == ()
    await backend.open(create=False)
    node = await join(backend)
    await settle(backend, [await put_running(backend, node)])
    await backend.close()
    again = psql(script)
    assert again.returncode == 3
    assert "already exists" in again.stderr
    assert query(f'SELECT count(*) FROM "{name}".migration') == [(len(KNOWN) + 1,)]


async def test_a_schema_of_another_development_version_is_refused(database_url, query):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    await backend.close()
    query("ALTER TABLE deeper.migration DROP COLUMN checksum")
    with pytest.raises(SchemaError, match="was made by another development version of deeper_tasks"):
        await backend.open()
