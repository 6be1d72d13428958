"""`deeper migrate`: brings a schema up to date, or prints the statements for somebody else to run."""

import sqlite3
from contextlib import closing

import pytest

from deeper_tasks.backends.postgres import schema as postgres_schema
from deeper_tasks.backends.sqlite import schema


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, folder):
    """The URL of a store that is not made yet."""
    return request.getfixturevalue("database_url") if request.param == "postgresql" else "sqlite:///other.db"


@pytest.fixture
def known(url):
    """The names of the migrations."""
    steps = (schema if url.startswith("sqlite") else postgres_schema).known_migrations()
    return [step.name for step in steps]


def test_it_applies_what_is_missing_and_then_says_that_nothing_is(deeper, url, known):
    assert deeper("migrate", "--url", url).stdout.splitlines() == [f"applied {name}" for name in known]
    assert deeper("migrate", "--url", url).stdout == "up to date\n"
    assert deeper("migrate", "--url", url, "--json").stdout == '{"applied":[]}\n'


def test_sql_prints_the_statements_and_changes_nothing(deeper, url, known, folder):
    script = deeper("migrate", "--sql", "--url", url).stdout
    assert script.startswith("BEGIN")
    assert script.endswith("COMMIT;\n")
    assert [name for name in known if f"('{name}', " in script] == known
    assert not (folder / "other.db").exists()
    assert deeper("migrate", "--url", url).stdout.count("applied") == len(known)
    assert deeper("migrate", "--sql", "--url", url).stdout == "-- up to date: no statement is missing\n"
    assert deeper("migrate", "--sql", "--all", "--url", url).stdout == script


def test_all_asks_no_server(deeper):
    result = deeper("migrate", "--sql", "--all", "--url", "postgresql://nobody@127.0.0.1:1/none?schema=shop")
    assert result.exit_code == 0
    assert 'CREATE SCHEMA "shop"' in result.stdout
    result = deeper("migrate", "--sql", "--url", "postgresql://nobody@127.0.0.1:1/none")
    assert result.exit_code != 0
    assert "no connection" in result.stderr


def test_sqlite_runs_what_was_printed(deeper, folder):
    script = deeper("migrate", "--sql", "--url", "sqlite:///other.db").stdout
    with closing(sqlite3.connect(folder / "other.db")) as connection:
        connection.executescript(script)
    assert deeper("list", "--url", "sqlite:///other.db").exit_code == 0
    assert deeper("migrate", "--url", "sqlite:///other.db").stdout == "up to date\n"


def test_all_without_sql_is_a_mistake(deeper):
    result = deeper("migrate", "--all", "--url", "sqlite:///other.db")
    assert result.exit_code == 2
    assert "has no effect without --sql" in result.stderr


def test_a_store_without_statements_says_so(deeper):
    result = deeper("migrate", "--sql", "--url", "noop://")
    assert result.exit_code == 1
    assert "the store noop:// has no SQL schema to print" in result.stderr


def test_where_tasks_are_disabled_nothing_is_called_up_to_date(deeper, folder):
    (folder / "deeper_tasks.toml").write_text("enabled = false\nurl = 'sqlite:///tasks.db'\n")
    for words in ((), ("--url", "noop://")):
        result = deeper("migrate", *words)
        assert result.exit_code == 0
        assert result.stdout.startswith("tasks are disabled here, by enabled = false or a url of noop://")
    assert (
        "deeper: the store noop://, used where enabled = false, has no SQL schema" in deeper("migrate", "--sql").stderr
    )
