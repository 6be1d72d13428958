"""The schema: migrations are applied once, in order, and recorded; a file from another time is refused."""

import sqlite3

import pytest

from deeper_tasks.backends.migrations import Migration
from deeper_tasks.backends.sqlite import SQLiteBackend, schema
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.errors import SchemaError
from deeper_tasks.testing.conformance.builders import DAY, NOW, new_job

KNOWN = tuple(step.name for step in schema.known_migrations())
LATER = Migration(name="9998_later", sql="CREATE TABLE deeper_later (a TEXT);\nCREATE INDEX i ON deeper_later (a);")
BROKEN = Migration(name="9998_broken", sql="CREATE TABLE deeper_later (a TEXT);\nCREATE TABLE deeper_later (a TEXT);")


@pytest.fixture
def with_migration(monkeypatch):
    """Return a way to have the code carry one more migration."""
    known = schema.known_migrations()
    return lambda more: monkeypatch.setattr(schema, "known_migrations", lambda: [*known, more])


def test_the_migrations_are_numbered_and_in_order():
    names = [step.name for step in schema.known_migrations()]
    assert names == sorted(names)
    assert names[0] == "0001_initial"
    assert all(name[:4].isdigit() for name in names)


async def test_migrating_a_fresh_file_applies_all_and_again_none(path, query):
    backend = SQLiteBackend(path)
    assert await backend.migrate() == KNOWN
    assert await backend.migrate() == ()
    await backend.open()
    assert await backend.migrate() == ()
    await backend.close()
    ledger = query("SELECT name, applied_at FROM deeper_migration")
    assert tuple(name for name, _ in ledger) == KNOWN
    assert ledger[0][1] > 1_700_000_000_000_000


async def test_an_older_file_is_left_alone_until_it_is_migrated(path, query, with_migration):
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.close()
    with_migration(LATER)
    with pytest.raises(SchemaError, match="lacks the migrations 9998_later; run 'deeper migrate'"):
        await backend.open()
    assert await backend.migrate() == ("9998_later",)
    await backend.open()
    await backend.close()
    assert query("SELECT count(*) FROM deeper_later") == [(0,)]


async def test_a_recurring_entry_from_before_the_history_goes_on_after_the_migration(path, monkeypatch):
    known = schema.known_migrations()
    schedule = Schedule(name="nightly", recurrence=parse_recurrence("@daily"), spec=new_job().spec)
    with monkeypatch.context() as before:
        before.setattr(schema, "known_migrations", lambda: known[:1])
        older = SQLiteBackend(path)
        await older.open()
        entry = await older.put_schedule(schedule, now=NOW)
        await older.close()
    backend = SQLiteBackend(path)
    assert await backend.migrate() == tuple(step.name for step in known[1:])
    await backend.open()
    assert (await backend.schedules(now=NOW)).entries == (entry,)
    assert await backend.schedule_runs("nightly") == []
    await backend.fire(plan_firing(entry, now=NOW + DAY), now=NOW + DAY)
    assert len(await backend.schedule_runs("nightly")) == 1
    await backend.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path, query, with_migration):
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.close()
    with_migration(BROKEN)
    with pytest.raises(Exception, match="deeper_later already exists"):
        await backend.migrate()
    assert query("SELECT name FROM sqlite_master WHERE name = 'deeper_later'") == []
    assert query("SELECT name FROM deeper_migration") == [(name,) for name in KNOWN]


async def test_a_newer_file_is_refused_and_not_changed(path, query):
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO deeper_migration (name) VALUES ('9999_tomorrow')")
    connection.commit()
    connection.close()
    for attempt in (backend.open, backend.migrate):
        with pytest.raises(SchemaError, match="9999_tomorrow, which this version does not know; upgrade"):
            await attempt()
    assert query("SELECT count(*) FROM deeper_migration") == [(len(KNOWN) + 1,)]


def test_every_statement_of_a_migration_is_run(query):
    for step in schema.known_migrations():
        statements = schema._statements(step.sql)
        assert all(sqlite3.complete_statement(statement) for statement in statements)
        assert "".join(statements).split() == step.sql.split()
