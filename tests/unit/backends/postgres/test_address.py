"""The address of a PostgreSQL store: what its URL may say, and that its password is never said again."""

import logging
import traceback
from datetime import timedelta

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
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
        ("timeout=nan", "timeout (seconds)"),
        ("timeout=inf", "timeout (seconds)"),
        ("timeout=soon", "'soon'"),
        ("pool_size=0", "pool_size=0 leaves no connection"),
        ("pool_size=many", "'many'"),
        ("pooler=session", "'session'"),
        ("pool=3", "check the names of its options"),
        ("synchronous=full", "check the names of its options"),
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
