"""
The schema: numbered migrations, applied in order and recorded in the database.

A deploy migrates first and then restarts the workers, one by one: so a released migration must suit the workers of the
release before it, which go on running. These rules see to that (docs/decisions/0015):

- A migration that was released is never edited, renamed or taken away.
- A function keeps its name, its arguments, its answer and its meaning. A function that works in another way gets a new
  name (`claim_2`); the old one goes two releases later, when no worker calls it any more.
- A column is added with a constant default or none, which rewrites no table, and
  never renamed, retyped, narrowed or read by `SELECT *`. It is dropped two
  releases after the last statement that names it.
- A code, a state or a kind that old workers do not know is written only from the release after the one that reads it.
- All locks are taken within `LOCK_TIMEOUT`, or the migration gives up and leaves nothing: a migration that waits for a
  table blocks every later statement on it.
- No migration reads all rows of `job`: the maintainers fill in new columns, a batch at a time.
- An index on `job` is made CONCURRENTLY, which is not possible in a transaction. Such a step gets the first line
  `-- alone` and has one statement. It runs by itself in autocommit, after a `DROP INDEX CONCURRENTLY IF EXISTS` of the
  invalid index that an interrupted run left, and is recorded when it is done; the steps before it are committed first.
  The first such step brings this to `migrate` and `script`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from deeper_tasks.backends.migrations import Migration, checksums, lacking, migrations_of
from deeper_tasks.backends.postgres.address import Address
from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.backends.postgres.database import Transaction
from deeper_tasks.backends.postgres.refusals import NO_SCHEMA
from deeper_tasks.backends.postgres.rights import quoted
from deeper_tasks.errors import BackendError, SchemaError

OLDEST_SERVER = 140_000

LOCK_TIMEOUT = "5s"
_SHORT_LOCK_TIMEOUT = "SET LOCAL lock_timeout TO '100ms'"

_EVENT_TRIGGER = re.compile(r'[\w."]+\(\)')
"""In the context of an error: a function without arguments is an event trigger's, as all of this store take some."""

SELECT_VERSION = "SELECT current_setting('server_version_num')::integer"
SELECT_ENCODING = "SELECT current_setting('server_encoding')"
SELECT_LEDGER = "SELECT to_regclass(%s) IS NOT NULL"
SELECT_STORE = "SELECT id::text FROM {schema}.store"


def known_migrations() -> list[Migration]:
    """Return the migrations that this code carries, in order."""
    return migrations_of(__package__)


def script(address: Address, steps: list[Migration], *, is_new: bool) -> str:
    """Return the statements that apply these steps, for a review and for `psql`: one transaction, or nothing."""
    if not steps:
        return ""
    parts = ["BEGIN;", _turn(address), _preamble(address, is_new=is_new)]
    parts += [f"-- {step.name}\n\n{step.sql.strip()}\n\n{_noted(step)}" for step in steps]
    return "\n\n".join([*parts, "COMMIT;\n"])


async def script_for(connection: Connection, address: Address) -> str:
    """
    Return the statements that apply the migrations which this database lacks.

    Raises:
        SchemaError: the database is newer than this code.
    """
    is_new = not await _has_ledger(connection, address)
    return script(address, await missing(connection, address), is_new=is_new)


async def migrate(connection: Connection, address: Address) -> tuple[str, ...]:
    """
    Apply the missing migrations, in one transaction; return their names. Only one process migrates at a time.

    Raises:
        SchemaError: the server is too old, the database's encoding is not UTF8, or the
            schema is newer than this code.
    """
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(_turn(address))
        await _check_server(connection, address)
        is_new = not await _has_ledger(connection, address)
        steps = await missing(connection, address)
        with _refusals_of_event_triggers(address):
            if steps or is_new:
                await cursor.execute(_preamble(address, is_new=is_new))
            for step in steps:
                await cursor.execute(f"{step.sql}\n{_noted(step)}")
    return tuple(step.name for step in steps)


async def missing(connection: Connection, address: Address) -> list[Migration]:
    """
    Return the migrations that the database lacks, in order.

    Raises:
        SchemaError: it has migrations that this code does not know.
    """
    applied: dict[str, str] = {}
    if await _has_ledger(connection, address):
        # The moment as text: the driver reads none that a session's DateStyle shows otherwise. As JSON: a ledger of
        # before has no checksums.
        statement = (
            f"SELECT name, applied_at::text, to_jsonb(ledger) ->> 'checksum' "
            f'FROM "{address.schema}".migration AS ledger'
        )
        applied = checksums(await (await connection.execute(statement)).fetchall())
    return lacking(known_migrations(), applied=applied, store=repr(address))


async def make_ready(connection: Connection, address: Address, *, create: bool) -> bool:
    """
    Create the schema, if that is wanted, in a database without one; return whether it was created.

    Raises:
        SchemaError: there is no schema, and it is not wanted or may not be made; or the schema is
            older than this code and waits for `migrate`, or newer.
    """
    is_new = not await _has_ledger(connection, address)
    lacking = await missing(connection, address)
    if not lacking:
        return False
    if not is_new:
        names = ", ".join(step.name for step in lacking)
        raise SchemaError(f"{address!r} lacks the migrations {names}; run 'deeper migrate'")
    if not create:
        raise SchemaError(f"{address!r} holds no jobs of deeper_tasks; an enqueue or 'deeper migrate' prepares it")
    try:
        return bool(await migrate(connection, address))
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"{address!r}: this user may not create the schema: {error.diag.message_primary}; have a user with the "
            f"right run the statements of 'deeper migrate --sql', or, for this user to migrate: CREATE SCHEMA "
            f"{quoted(address.schema)} AUTHORIZATION {quoted(connection.info.user)}"
        ) from error


async def look_at_store(transaction: Transaction) -> list[Row]:
    """Return the rows of the store's table, without waiting for a transaction that has it locked."""
    await transaction.execute(_SHORT_LOCK_TIMEOUT)
    return await transaction.rows(SELECT_STORE.replace("{schema}.", ""))


def look_at_store_blocking(connection: psycopg.Connection[Row], address: Address) -> list[Row]:
    """Do the same on a blocking connection, in a transaction of its own."""
    with connection.transaction():
        connection.execute(_SHORT_LOCK_TIMEOUT)
        return connection.execute(SELECT_STORE.format(schema=f'"{address.schema}"').encode()).fetchall()


def one_store(rows: Sequence[Row], address: Address) -> str:
    """
    Return the id of the store, from the rows of its table.

    Raises:
        SchemaError: there is no row that this user may see, or more than one.
    """
    match rows:
        case [(store,)]:
            return str(store)
        case []:
            raise SchemaError(
                f"{address!r} has no row in its table 'store': it is a copy that is not complete yet, or row-level "
                f"security hides it from this user, see 'deeper doctor'"
            )
        case _:
            raise SchemaError(
                f"{address!r} has {len(rows)} rows in its table 'store', and a store has only one: a copy was made "
                f"into a schema "
                f"that already had a row; delete the row with the later created_at, and check that all jobs belong to "
                f"one store"
            )


async def _check_server(connection: Connection, address: Address) -> None:
    [(version,)] = await (await connection.execute(SELECT_VERSION)).fetchall()
    if version < OLDEST_SERVER:
        raise SchemaError(f"{address!r} is PostgreSQL {version // 10_000}: version 14 or later is needed")
    [(encoding,)] = await (await connection.execute(SELECT_ENCODING)).fetchall()
    if encoding != "UTF8":
        raise SchemaError(
            f"{address!r} keeps text as {encoding}, in which not every job can be written: "
            f"use a database made with ENCODING 'UTF8' TEMPLATE template0"
        )


@contextmanager
def _refusals_of_event_triggers(address: Address) -> Iterator[None]:
    """Name the function of an event trigger that fails: it runs within a migration, with its search path."""
    try:
        yield
    except psycopg.Error as error:
        function = _EVENT_TRIGGER.search(error.diag.context or "")
        if function is None:
            raise
        way_out = (
            f"it looks for its tables by the migration's search path: "
            f"ALTER FUNCTION {function[0]} SET search_path = public"
            if error.sqlstate in NO_SCHEMA
            else "see to it, or have an administrator disable the event trigger for the migration"
        )
        raise BackendError(
            f"{address!r} refused a migration: {error.diag.message_primary} (function {function[0]}, which an event "
            f"trigger of this database calls); {way_out}"
        ) from error


async def _has_ledger(connection: Connection, address: Address) -> bool:
    cursor = await connection.execute(SELECT_LEDGER, (f'"{address.schema}".migration',))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


def _turn(address: Address) -> str:
    """Return statements after which no other process migrates. Only the wait for this turn may take long."""
    return "\n".join(
        [
            "SET LOCAL statement_timeout TO 0;",
            "SET LOCAL lock_timeout TO 0;",
            # There since PostgreSQL 17.
            "SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout';",
            f"SELECT pg_advisory_xact_lock(hashtextextended('deeper_tasks:{address.schema}', 0));",
            f"SET LOCAL lock_timeout TO '{LOCK_TIMEOUT}';",
        ]
    )


def _preamble(address: Address, *, is_new: bool) -> str:
    name = f'"{address.schema}"'
    lines = [f"SET LOCAL search_path TO {name}, pg_temp;"]
    if is_new:
        lines = [_CREATE_SCHEMA.format(name=name), *lines, _CREATE_LEDGER]
    return "\n".join(lines)


def _noted(step: Migration) -> str:
    return f"INSERT INTO migration (name, checksum) VALUES ('{step.name}', '{step.checksum}');"


# IF NOT EXISTS would need the right to create a schema even if the schema is there.
_CREATE_SCHEMA = """DO $$
BEGIN
    IF to_regnamespace('{name}') IS NULL THEN
        CREATE SCHEMA {name};
    END IF;
END $$;"""
_CREATE_LEDGER = """CREATE TABLE migration (
    name       text        NOT NULL PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now(),
    checksum   text
);"""
