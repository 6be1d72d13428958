"""Damage for the stores with tables, done behind their backs by SQL."""

import sqlite3
from contextlib import closing

import psycopg

from deeper_tasks.testing import Harm

DEEP = '{"tags":' + "[" * 5_000 + "]" * 5_000 + "}"
DOCUMENTS = {
    Harm.TRUNCATED: '{"tags":["re',
    Harm.OTHER_SHAPE: '{"tags":7,"fraction":null,"queues":7}',
    Harm.TOO_DEEP: DEEP,
}
MICROSECONDS = {Harm.TOO_LATE: (1 << 62), Harm.TOO_EARLY: -(1 << 62)}
TIMESTAMPS = {Harm.TOO_LATE: "infinity", Harm.TOO_EARLY: "0044-03-15 12:00:00+00 BC"}

_KEYS = {"job": "id", "node": "id", "queue": "name", "schedule": "name"}


def damage_sqlite(path):
    """Return what damages a row of a database file."""

    async def damage(table, key, field, harm):
        value = DOCUMENTS.get(harm, MICROSECONDS.get(harm))
        with closing(sqlite3.connect(path)) as connection, connection:
            statement = f"UPDATE deeper_{table} SET {field} = ? WHERE {_KEYS[table]} = ?"
            assert connection.execute(statement, (value, key)).rowcount == 1

    return damage


def damage_postgres(url, schema="deeper"):
    """Return what damages a row of a PostgreSQL database."""

    async def damage(table, key, field, harm):
        value = DOCUMENTS.get(harm, TIMESTAMPS.get(harm))
        if field in {"errors", "log"}:
            # Of another shape: of two dimensions.
            value = [["one"], ["other"]] if harm is Harm.OTHER_SHAPE else [value]
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            statement = f'UPDATE "{schema}".{table} SET {field} = %s WHERE {_KEYS[table]}::text = %s'
            assert (await connection.execute(statement, (value, key))).rowcount == 1

    return damage
