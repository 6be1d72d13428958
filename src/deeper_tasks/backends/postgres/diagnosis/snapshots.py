"""The snapshots: the transactions that keep the dead rows of the whole database from being removed."""

from __future__ import annotations

from datetime import timedelta

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fine, warning

SEES_ALL = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
# Vacuum considers the transactions of its own database, and of these only those that read or write.
SELECT_SESSIONS = """
SELECT pid, usename::text, application_name, state, extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - %s::interval
    AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state LIKE 'idle in transaction%%')
    AND backend_type <> 'autovacuum worker'
ORDER BY xact_start
LIMIT 5
"""
SELECT_PREPARED = """
SELECT gid, owner::text, extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - %s::interval
ORDER BY prepared
LIMIT 5
"""
SELECT_SLOTS = """
SELECT slot_name::text, active, greatest(age(xmin), age(catalog_xmin))
FROM pg_replication_slots
WHERE age(xmin) > %s
ORDER BY 3 DESC
LIMIT 5
"""

LONG = timedelta(minutes=5)
"""The age of a transaction from which on a warning is given."""
FAR_BEHIND = 1_000_000
"""The number of transactions by which a replica may be behind without a warning."""


async def examine(connection: Connection) -> list[Finding]:
    """Return the findings about transactions that have been open for long."""
    sessions = await (await connection.execute(SELECT_SESSIONS, [LONG])).fetchall()
    prepared = await (await connection.execute(SELECT_PREPARED, [LONG])).fetchall()
    slots = await (await connection.execute(SELECT_SLOTS, [FAR_BEHIND])).fetchall()
    found = [*map(_session, sessions), *map(_prepared, prepared), *map(_slot, slots)]
    return found or [fine("long transactions", f"none older than {LONG}{await _limits(connection)}")]


async def _limits(connection: Connection) -> str:
    [(sees_all,)] = await (await connection.execute(SEES_ALL)).fetchall()
    return "" if sees_all else " of this user; to see those of others: GRANT pg_read_all_stats"


def _session(row: Row) -> Finding:
    pid, user, application, state, seconds = row
    by = f" by {application!r}" if application else ""
    return warning(
        "long transactions",
        f"session {pid} of {user!r}{by} is {state} for {readable(float(seconds))}: "
        f"it keeps its locks, and dead rows of this database from being removed",
        f"commit sooner there; or end it: SELECT pg_terminate_backend({pid}); "
        f"against the next one: idle_in_transaction_session_timeout",
    )


def _prepared(row: Row) -> Finding:
    name, owner, seconds = row
    return warning(
        "long transactions",
        f"the transaction {name!r} of {owner!r} was prepared {readable(float(seconds))} ago and never ended: "
        f"it keeps its locks, and dead rows cannot go",
        "ask its transaction manager, then COMMIT PREPARED or ROLLBACK PREPARED it by its name",
    )


def _slot(row: Row) -> Finding:
    name, is_active, age = row
    return warning(
        "long transactions",
        f"the replication slot {name!r}, {'' if is_active else 'which no client reads, '}is {age:,} transactions "
        "behind: dead rows cannot go",
        "see to the replica; if it is gone for good: SELECT pg_drop_replication_slot('…')",
    )
