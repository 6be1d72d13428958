"""The file: what it may be, what becomes of it, and what a process that forks does with it."""

import asyncio
import os
import sqlite3
from contextlib import closing

import pytest

from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.database import Database, Synchronous
from deeper_tasks.backends.sqlite.schema import known_migrations
from deeper_tasks.errors import BackendUnavailableError, SchemaError
from deeper_tasks.manager.stores import make_backend
from deeper_tasks.testing.conformance.builders import new_job

KNOWN = [step.name for step in known_migrations()]


async def opened(path):
    backend = SQLiteBackend(path, timeout=5)
    try:
        await backend.open()
    finally:
        await backend.close()


async def test_a_fresh_file_gets_the_schema_and_is_opened_again(path, query):
    await opened(path)
    await opened(path)
    assert [row[0] for row in query("SELECT name FROM deeper_migration")] == KNOWN


async def test_an_empty_file_gets_the_schema(path, query):
    path.touch()
    await opened(path)
    assert query("SELECT count(*) FROM deeper_job") == [(0,)]


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path):
    path.write_bytes(b"notes of mine\n" * 1000)
    with pytest.raises(SchemaError, match="is not an SQLite database; name another file"):
        await opened(path)
    assert path.read_bytes() == b"notes of mine\n" * 1000


async def test_a_folder_is_refused(path):
    path.mkdir()
    with pytest.raises(BackendUnavailableError, match="cannot be opened"):
        await opened(path)


async def test_a_missing_folder_is_refused_by_its_name(path):
    with pytest.raises(BackendUnavailableError, match=r"the folder .*missing' of the database does not exist"):
        await opened(path.parent / "missing" / "tasks.db")


async def test_a_damaged_file_is_told_as_damaged(path):
    await opened(path)
    content = bytearray(path.read_bytes())
    content[100:4000] = os.urandom(3900)
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"is damaged .*restore it from a copy"):
        await opened(path)


async def test_a_file_that_was_refused_can_be_opened_when_it_is_mended(path):
    path.write_bytes(b"notes of mine\n" * 1000)
    backend = SQLiteBackend(path)
    with pytest.raises(SchemaError):
        await backend.open()
    path.unlink()
    await backend.open()
    await backend.insert([new_job()])
    await backend.close()


async def test_another_programs_file_keeps_its_own_tables(path, query):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customer (name TEXT)")
    connection.execute("INSERT INTO customer VALUES ('Ada')")
    connection.execute("PRAGMA user_version = 7")
    connection.commit()
    connection.close()
    await opened(path)
    assert query("SELECT name FROM customer") == [("Ada",)]
    assert query("PRAGMA user_version") == [(7,)]
    tables = {row[0] for row in query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert all(table.startswith("deeper_") for table in tables - {"customer"})


@pytest.mark.parametrize(("option", "expected"), [("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)])
async def test_synchronous_is_what_the_url_says(path, option, expected):
    backend = make_backend(f"sqlite:///{path}{option}")
    await backend.open()
    pragma = "PRAGMA synchronous"
    assert await backend._threads.write(lambda connection: connection.execute(pragma).fetchone()[0]) == expected
    await backend.close()


async def test_the_timeout_is_what_the_url_says(path):
    backend = make_backend(f"sqlite:///{path}?timeout=2.5")
    await backend.open()
    pragma = "PRAGMA busy_timeout"
    assert await backend._threads.write(lambda connection: connection.execute(pragma).fetchone()[0]) == 2500
    await backend.close()


async def test_the_journal_is_a_write_ahead_log(backend, query):
    assert query("PRAGMA journal_mode") == [("wal",)]


async def test_a_path_with_odd_characters_is_a_path(tmp_path):
    for name in ("with space.db", "ünï.db", "question?.db", "hash#.db", "percent%20.db"):
        await opened(tmp_path / name)
        assert (tmp_path / name).is_file()


async def test_a_url_may_percent_encode_its_path(tmp_path):
    backend = make_backend(f"sqlite:///{tmp_path}/with%20space.db")
    await backend.open()
    await backend.close()
    assert (tmp_path / "with space.db").is_file()


async def test_a_relative_path_stays_where_it_was_when_the_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = SQLiteBackend("tasks.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await backend.open()
    await backend.close()
    assert (tmp_path / "tasks.db").is_file()


async def test_two_first_uses_at_once_both_find_the_schema(path):
    for number in range(10):
        backend = SQLiteBackend(path.with_name(f"{number}.db"))

        async def open_and_look(backend=backend):
            await backend.open()
            return (await backend.find(JobQuery())).total

        assert await asyncio.gather(*(open_and_look() for _ in range(5))) == [0] * 5
        await backend.close()


def test_an_old_sqlite_is_refused(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(Exception, match=r"too old: 3\.37\.0 or later is needed"):
        Database(path=path).connect_to_write()


def test_synchronous_has_two_words():
    assert [each.value for each in Synchronous] == ["full", "normal"]


def remove(path):
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()


async def test_a_file_that_was_removed_takes_no_jobs_that_would_be_lost(backend, path):
    await backend.insert([new_job()])
    await backend.find(JobQuery())
    remove(path)
    job = new_job()
    with pytest.raises(BackendUnavailableError, match="was removed while it was open") as raised:
        await backend.insert([job])
    assert raised.value.request_ids == (job.request_id,)
    with pytest.raises(BackendUnavailableError, match="was removed while it was open"):
        await backend.find(JobQuery())
    with pytest.raises(BackendUnavailableError, match="removed or never created"):
        await backend.get(job.request_id)
    assert not path.exists()


async def test_a_file_that_was_replaced_is_gone_over_to(backend, path, query):
    await backend.insert([new_job(), new_job()])
    assert (await backend.find(JobQuery())).total == 2
    remove(path)
    await opened(path)
    job = new_job()
    await backend.insert([job])
    assert [found.id for found in (await backend.find(JobQuery())).jobs] == [job.request_id]
    assert query("SELECT id FROM deeper_job") == [(job.request_id,)]


@pytest.mark.parametrize("way", ["dropped", "replaced by another program's"])
async def test_a_store_whose_tables_are_gone_says_so_and_goes_on_when_they_were_made_anew(backend, path, way):
    await backend.insert([new_job()])
    if way != "dropped":
        remove(path)
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'deeper%'")
        for (name,) in tables.fetchall():
            connection.execute(f"DROP TABLE {name}")
        connection.execute("CREATE TABLE other (value)")
        connection.commit()
    for _ in range(2):
        with pytest.raises(SchemaError, match=r"lacks a part of the schema: no such table.*run 'deeper migrate'") as no:
            await backend.insert([new_job()])
        assert isinstance(no.value, BackendUnavailableError)
    await SQLiteBackend(path).migrate()
    await backend.insert([new_job()])
    assert (await backend.find(JobQuery())).total == 1


async def test_a_file_that_is_put_back_is_used_again(backend, path):
    await backend.insert([new_job()])
    aside = path.with_name("aside.db")
    path.rename(aside)
    with pytest.raises(BackendUnavailableError):
        await backend.insert([new_job()])
    aside.rename(path)
    await backend.insert([new_job()])
    assert (await backend.find(JobQuery())).total == 2


@pytest.mark.parametrize(
    "change", ["UPDATE deeper_migration SET checksum = '0'", "ALTER TABLE deeper_migration DROP checksum"]
)
async def test_a_file_of_another_development_version_is_refused(path, change):
    await opened(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(SchemaError, match="was made by another development version of deeper_tasks: use a new file"):
        await opened(path)
    with pytest.raises(SchemaError, match="another development version"):
        await SQLiteBackend(path).migrate()


@pytest.mark.parametrize("kind", ["a folder", "a device or a pipe"])
async def test_what_is_no_file_is_refused_and_nothing_is_made_beside_it(tmp_path, kind):
    path = tmp_path / "tasks"
    if kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    backend = SQLiteBackend(path)
    with pytest.raises(BackendUnavailableError, match=f"is {kind} and no file; correct the store's URL"):
        await backend.open()
    assert list(tmp_path.iterdir()) == [path]
