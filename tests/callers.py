"""Callers: applications of tests, each with a transaction of its own open on a connection of one kind."""

import inspect
import itertools
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import asyncpg
import django
import psycopg
from django.conf import settings
from django.db import connections, transaction
from msgspec import Struct
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from deeper_tasks.testing import Ledger

_numbers = itertools.count(1)


class Caller(Struct, frozen=True, kw_only=True):
    """An application that is inside a transaction: what it gives to an enqueue, and what it does itself."""

    connection: object
    execute: Callable[[str], Awaitable[object]]
    commit: Callable[[], Awaitable[object]]
    rollback: Callable[[], Awaitable[object]]


def waited(function):
    """Return an async form of a blocking function."""

    async def call(*args):
        return function(*args)

    return call


def through(driver, url):
    """Return the URL as SQLAlchemy writes it."""
    return urlsplit(url)._replace(scheme=f"postgresql+{driver}").geturl()


@asynccontextmanager
async def by_psycopg(url):
    connection = psycopg.connect(url)
    try:
        yield Caller(
            connection=connection,
            execute=waited(connection.execute),
            commit=waited(connection.commit),
            rollback=waited(connection.rollback),
        )
    finally:
        connection.close()


@asynccontextmanager
async def by_async_psycopg(url):
    connection = await psycopg.AsyncConnection.connect(url)
    try:
        yield Caller(
            connection=connection,
            execute=connection.execute,
            commit=connection.commit,
            rollback=connection.rollback,
        )
    finally:
        await connection.close()


def _sqlalchemy(driver, open_on):
    @asynccontextmanager
    async def by_sqlalchemy(url):
        engine = create_engine(through(driver, url), poolclass=NullPool)
        try:
            with open_on(engine) as connection:
                yield Caller(
                    connection=connection,
                    execute=waited(lambda statement: connection.execute(text(statement))),
                    commit=waited(connection.commit),
                    rollback=waited(connection.rollback),
                )
        finally:
            engine.dispose()

    return by_sqlalchemy


@contextmanager
def _scoped(engine):
    scope = scoped_session(sessionmaker(engine))
    yield scope
    scope.remove()


def _async_sqlalchemy(driver, open_on):
    @asynccontextmanager
    async def by_sqlalchemy(url):
        engine = create_async_engine(through(driver, url), poolclass=NullPool)
        try:
            async with open_on(engine) as connection:
                yield Caller(
                    connection=connection,
                    execute=lambda statement: connection.execute(text(statement)),
                    commit=connection.commit,
                    rollback=connection.rollback,
                )
        finally:
            await engine.dispose()

    return by_sqlalchemy


@asynccontextmanager
async def _async_scoped(engine):
    scope = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    yield scope
    await scope.remove()


@asynccontextmanager
async def by_asyncpg(url):
    connection = await asyncpg.connect(url)
    try:
        mine = connection.transaction()
        await mine.start()
        yield Caller(connection=connection, execute=connection.execute, commit=mine.commit, rollback=mine.rollback)
    finally:
        await connection.close()


@asynccontextmanager
async def by_asyncpg_pool(url):
    async with asyncpg.create_pool(url, min_size=0, max_size=1) as pool, pool.acquire() as connection:
        mine = connection.transaction()
        await mine.start()
        yield Caller(connection=connection, execute=connection.execute, commit=mine.commit, rollback=mine.rollback)


@contextmanager
def django_database(url):
    """Give the alias of a database that Django knows for so long."""
    if not settings.configured:
        settings.configure(DATABASES={}, INSTALLED_APPS=[], USE_TZ=True)
        django.setup()
    parts = urlsplit(url)
    alias = f"database_{next(_numbers)}"
    given = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.removeprefix("/"),
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": parts.port,
    }
    connections.settings[alias] = connections.configure_settings({"default": given})["default"]
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@asynccontextmanager
async def by_django(url):
    with django_database(url) as alias:
        atomic = transaction.atomic(using=alias)
        atomic.__enter__()
        is_open = True

        def end():
            nonlocal is_open
            is_open = False
            atomic.__exit__(None, None, None)

        def roll_back():
            transaction.set_rollback(True, using=alias)
            end()

        def execute(statement):
            with connections[alias].cursor() as cursor:
                cursor.execute(statement)

        yield Caller(
            connection=connections[alias], execute=waited(execute), commit=waited(end), rollback=waited(roll_back)
        )
        if is_open:
            roll_back()


BLOCKING = {
    "psycopg": by_psycopg,
    "SQLAlchemy Session": _sqlalchemy("psycopg", Session),
    "SQLAlchemy scoped_session": _sqlalchemy("psycopg", _scoped),
    "SQLAlchemy Connection": _sqlalchemy("psycopg", lambda engine: engine.connect()),
    "Django": by_django,
}
ASYNC = {
    "psycopg async": by_async_psycopg,
    "SQLAlchemy AsyncSession, asyncpg": _async_sqlalchemy("asyncpg", AsyncSession),
    "SQLAlchemy AsyncSession, psycopg": _async_sqlalchemy("psycopg", AsyncSession),
    "SQLAlchemy async_scoped_session": _async_sqlalchemy("asyncpg", _async_scoped),
    "SQLAlchemy AsyncConnection": _async_sqlalchemy("asyncpg", lambda engine: engine.connect()),
    "asyncpg": by_asyncpg,
    "asyncpg pool": by_asyncpg_pool,
}
KINDS = BLOCKING | ASYNC
"""By the name of the kind, a function of a database's URL that returns the context of a `Caller`."""


@contextmanager
def new_ledger(url):
    """Give the table of an application beside the jobs, which handlers write to."""

    async def done(answer):
        return await answer if inspect.isawaitable(answer) else answer

    async def write(connection, entry):
        await done(connection.execute("INSERT INTO app.ledger (entry) VALUES (%s)", (entry,)))

    async def commit(connection):
        await done(connection.commit())

    async def read():
        with psycopg.connect(url) as connection:
            return [entry for (entry,) in connection.execute("SELECT entry FROM app.ledger ORDER BY number")]

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA app")
        connection.execute("CREATE TABLE app.ledger (number integer GENERATED ALWAYS AS IDENTITY, entry text)")
        yield Ledger(write=write, commit=commit, read=read)
        connection.execute("DROP SCHEMA app CASCADE")
