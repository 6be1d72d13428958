"""The address of a PostgreSQL store: what its URL may say, and that its password is never said again."""

import logging
import traceback
from datetime import timedelta

import psycopg
import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
from deeper_tasks.backends.postgres.refusals import first_line, translate
from deeper_tasks.errors import BackendUnavailableError, ConfigError
from deeper_tasks.manager.stores import make_backend

SECRET = "hunter2"
URL = f"postgresql://me:{SECRET}@127.0.0.1:1/shop"


def address_of(url):
    return make_backend(url)._database.address


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_url_that_says_nothing_else_gets_the_defaults(scheme):
    url = f"{scheme}://me@db.example:5433/shop"
    assert isinstance(make_backend(url), PostgresBackend)
    assert address_of(url) == Address(conninfo=url)
    assert Address(conninfo=url).schema == "deeper"


def test_options_of_ours_are_taken_out_and_those_of_libpq_go_on():
    url = "postgresql://me@h/shop?schema=red&timeout=2.5&pool_size=3&pooler=transaction&sslmode=require&options=-c%20a%3Db"
    assert address_of(url) == Address(
        conninfo="postgresql://me@h/shop?sslmode=require&options=-c%20a%3Db",
        schema="red",
        timeout=timedelta(seconds=2.5),
        pool_size=3,
        pooler=Pooler.TRANSACTION,
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///shop?host=%2Frun%2Fpostgresql",
        "postgresql://one:5432,two:5433/shop?target_session_attrs=read-write",
        "postgresql://me:a%2Fb%40c@[::1]:5433/shop",
        "postgresql://",
        "postgresql://h/a%20b",
    ],
)
def test_whatever_libpq_can_read_reaches_it_as_it_was_written(url):
    assert address_of(url).conninfo == url


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("schema=Deeper", "schema='Deeper' cannot be a name"),
        ("schema=1a", "schema='1a' cannot be a name"),
        ("schema=pg_jobs", "schema='pg_jobs' cannot be a name"),
        ('schema=a"b', "cannot be a name"),
        (f"schema={'a' * 49}", "up to 48"),
        ("schema=", "schema='' cannot be a name"),
        ("timeout=0", "timeout=0 cannot be used: give more than 0 seconds"),
        ("timeout=-1", "timeout=-1 cannot be used"),
        ("timeout=nan", "option 'timeout' cannot be 'nan': give seconds"),
        ("timeout=inf", "option 'timeout' cannot be 'inf': give seconds"),
        ("timeout=soon", "option 'timeout' cannot be 'soon': give seconds"),
        ("pool_size=0", "pool_size=0 leaves no connection"),
        ("pool_size=many", "option 'pool_size' cannot be 'many': give a whole number"),
        ("pool_size=1.5", "option 'pool_size' cannot be '1.5': give a whole number"),
        ("pooler=session", "option 'pooler' cannot be 'session': give none or transaction"),
        ("pool=3", "the unknown option 'pool'; there are: schema (a name), timeout (seconds)"),
        ("synchronous=full", "the unknown option 'synchronous'; there are: schema (a name)"),
        ("schema=a&schema=b", "the option 'schema' twice: keep one"),
        ("sslmode=require&sslmode=disable", "the option 'sslmode' twice: keep one"),
    ],
)
def test_an_option_that_cannot_be_used_is_named_and_the_password_is_not(query, words):
    with pytest.raises(ConfigError) as raised:
        make_backend(f"{URL}?{query}")
    assert words in str(raised.value)
    assert "me:***@127.0.0.1" in str(raised.value)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_url_that_libpq_cannot_read_is_refused_without_its_password():
    with pytest.raises(ConfigError, match="percent-encode special characters") as raised:
        make_backend(f"postgresql://me:{SECRET}%%@h/shop")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("end", ["#2", "#", "?timeout=2#x"])
def test_a_fragment_is_refused_because_another_database_would_be_used(end):
    with pytest.raises(ConfigError, match="what follows is lost; write %23 for one in a name or in the password"):
        make_backend(f"postgresql://me@h/lab{end}")
    with pytest.raises(ConfigError, match=r"'listen_url' cannot be .*: a '#' ends a URL"):
        BackgroundTaskManager(URL, listen_url=f"postgresql://me@h/lab{end}")


@pytest.mark.parametrize("url", ["postgresql://h:5432/shop?user=a@b", "postgresql://a,[::1]:5433/shop?user=a@b"])
def test_an_at_sign_in_an_option_belongs_to_its_value(url):
    assert make_backend(url)


def test_the_words_of_the_driver_are_shown_without_a_password_that_it_took_for_something_else():
    address = Address(conninfo=f"postgresql://me:x@{SECRET}@h/shop")
    error = psycopg.OperationalError(f"failed to resolve host '{SECRET}@h': Name or service not known")
    assert str(translate(error, address)).endswith(
        "not available: failed to resolve host '***': Name or service not known"
    )
    assert "failed to resolve host '***'" in first_line(error, address)
    pairs = Address(conninfo=f"host=h user='x;password={SECRET}'")
    error = psycopg.OperationalError(f'role "x;password={SECRET}" does not exist, user=me, secret=7')
    assert SECRET not in f"{translate(error, pairs)} {pairs!r}"


@pytest.mark.parametrize("conninfo", [URL, f"host=127.0.0.1 port=1 user=me password={SECRET}", f"password={SECRET} ="])
def test_the_password_is_in_no_representation(conninfo):
    address = Address(conninfo=conninfo)
    backend = PostgresBackend(address)
    shown = [repr(address), str(address), repr(list(address.__rich_repr__())), repr(backend), repr(backend._database)]
    assert all(SECRET not in text for text in shown)


async def test_the_password_is_in_no_message_and_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    manager = BackgroundTaskManager(f"{URL}?timeout=2")
    with pytest.raises(BackendUnavailableError, match=r"no connection to .*me:\*\*\*@127.0.0.1:1/shop") as raised:
        await manager.open()
    said = [*traceback.format_exception(raised.value), *map(str, await manager.diagnose()), caplog.text]
    assert SECRET not in "".join(said)
    assert SECRET not in repr(manager)
    assert SECRET not in repr(manager.settings)
