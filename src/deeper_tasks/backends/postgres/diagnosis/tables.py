"""The tables: their size, their dead rows and when those were last removed, and the state of their indexes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.domain.finding import Finding, fault, fine, warning

SELECT_TABLES = """
SELECT pg_class.relname::text, n_live_tup, n_dead_tup,
    to_char(last_autovacuum AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'),
    coalesce(reloptions::text[] && ARRAY['autovacuum_enabled=false', 'autovacuum_enabled=off'], false)
FROM pg_stat_user_tables
JOIN pg_class ON pg_class.oid = relid
WHERE schemaname = %(schema)s
ORDER BY pg_class.relname
"""
SELECT_SIZE = """
SELECT pg_size_pretty(sum(pg_total_relation_size(oid)))
FROM pg_class WHERE relnamespace = to_regnamespace(%(quoted)s)::oid AND relkind = 'r'
"""
SELECT_INDEXES = """
SELECT class.relname::text, index.indisvalid AND index.indisready,
    pg_relation_size(class.oid), pg_size_pretty(pg_relation_size(class.oid)), class.reltuples::bigint
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid
WHERE class.relnamespace = to_regnamespace(%(quoted)s)::oid
ORDER BY class.relname
"""
# The identity is a primary key, an index that was chosen in its place, or the whole row.
SELECT_ODD_TABLES = """
SELECT class.relname::text, class.relpersistence = 'u',
    NOT CASE class.relreplident
        WHEN 'd' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = class.oid AND indisprimary AND indisvalid)
        WHEN 'i' THEN EXISTS (SELECT FROM pg_index WHERE indrelid = class.oid AND indisreplident AND indisvalid)
        ELSE class.relreplident = 'f'
    END,
    EXISTS (
        SELECT FROM pg_publication_tables AS published
        WHERE published.schemaname = %(schema)s AND published.tablename = class.relname
    )
FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace(%(quoted)s)::oid AND class.relkind IN ('r', 'p')
ORDER BY class.relname
"""

_MANY_DEAD = 100_000
_LARGE = 64 * 1024 * 1024
_ROOMY = 1_000
"""Bytes of an index for each of its entries. None needs more than two hundred."""


async def examine(connection: Connection, schema: str) -> list[Finding]:
    """Return the findings about the tables and their indexes."""
    names = {"schema": schema, "quoted": f'"{schema}"'}
    tables = await (await connection.execute(SELECT_TABLES, names)).fetchall()
    indexes = await (await connection.execute(SELECT_INDEXES, names)).fetchall()
    odd = await (await connection.execute(SELECT_ODD_TABLES, names)).fetchall()
    [(size,)] = await (await connection.execute(SELECT_SIZE, names)).fetchall()
    return [
        fine("space", f"the schema {schema!r} takes {size}"),
        *(list(_vacuum(tables, schema)) or [fine("dead rows", f"{sum(row[2] for row in tables):,}")]),
        *(list(_indexes(indexes, schema)) or [fine("indexes", f"{len(indexes)}, all valid")]),
        *_odd(odd, schema),
    ]


def _odd(tables: Iterable[Row], schema: str) -> Iterator[Finding]:
    """Return findings about properties of tables that only an administrator or another program can have changed."""
    for name, is_unlogged, is_anonymous, is_published in tables:
        if is_unlogged:
            yield fault(
                "durability",
                f"{schema}.{name} is unlogged: a crash of the server empties it, and a replica does not have it",
                f'ALTER TABLE "{schema}".{name} SET LOGGED',
            )
        if is_anonymous and is_published:
            yield fault(
                "replication",
                f"{schema}.{name} is published and has no replica identity: the server refuses to change its rows",
                f'give it its primary key back, or: ALTER TABLE "{schema}".{name} REPLICA IDENTITY FULL',
            )
        elif is_anonymous:
            yield warning(
                "replication",
                f"{schema}.{name} has no replica identity: in a publication the server would refuse to change its rows",
                f'give it its primary key back, or: ALTER TABLE "{schema}".{name} REPLICA IDENTITY FULL',
            )


def _vacuum(tables: Iterable[Row], schema: str) -> Iterator[Finding]:
    for name, live, dead, vacuumed, is_off in tables:
        if is_off:
            yield fault(
                "autovacuum",
                f"it is switched off for {schema}.{name}, whose dead rows stay",
                f'ALTER TABLE "{schema}".{name} RESET (autovacuum_enabled)',
            )
        if dead > _MANY_DEAD and dead > live:
            last = f"the last autovacuum was at {vacuumed} UTC" if vacuumed else "no autovacuum has come yet"
            yield warning(
                "dead rows",
                f"{schema}.{name} has {dead:,} dead rows beside {live:,} live ones; {last}",
                f'see "long transactions"; if there are none: VACUUM "{schema}".{name}; and let autovacuum have more '
                f"workers and a lower autovacuum_naptime",
            )


def _indexes(indexes: Iterable[Row], schema: str) -> Iterator[Finding]:
    for name, is_valid, size, pretty, entries in indexes:
        remedy = f'REINDEX INDEX CONCURRENTLY "{schema}".{name}'
        if not is_valid:
            yield fault("indexes", f"{schema}.{name} is invalid: what made it was interrupted", remedy)
        elif size > _LARGE and size > _ROOMY * max(entries, 1):
            yield warning("indexes", f"{schema}.{name} takes {pretty} for {max(entries, 0):,} entries", remedy)
