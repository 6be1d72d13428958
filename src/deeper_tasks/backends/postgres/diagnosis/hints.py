"""The hints: how full the server's queue of notifications is, and which session keeps it from being emptied."""

from __future__ import annotations

from collections.abc import Sequence

from deeper_tasks.backends.postgres.codec import Row
from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.backends.postgres.diagnosis.snapshots import SEES_ALL
from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fine, warning

SELECT_USAGE = "SELECT pg_notification_queue_usage()"
# There is one queue for the whole server, and it does not show how far each listener has read. A listener falls behind
# if it has a transaction open, or if its client reads nothing from the network any more.
SELECT_HOLDERS = """
SELECT pid, usename::text, application_name, datname::text, state, wait_event = 'ClientWrite',
    extract(epoch FROM clock_timestamp() - coalesce(xact_start, state_change))::float8,
    to_char(coalesce(xact_start, state_change) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND (xact_start IS NOT NULL OR wait_event = 'ClientWrite')
ORDER BY coalesce(xact_start, state_change)
LIMIT 3
"""

_FILLS, _MOST = 0.1, 0.5
"""Shares of the queue: from the first a warning is given, from the second no hints are sent (`have_hints_room`)."""


async def examine(connection: Connection) -> list[Finding]:
    """Return the findings about the queue of notifications."""
    [(usage,)] = await (await connection.execute(SELECT_USAGE)).fetchall()
    fact = f"the server's queue of notifications is {100 * usage:.0f} % full"
    if usage < _FILLS:
        return [fine("hints", fact)]
    effect = (
        "no hints are sent, so jobs wait for the next poll of a worker"
        if usage >= _MOST
        else "from 50 % on no hints are sent"
    )
    holders = await (await connection.execute(SELECT_HOLDERS)).fetchall()
    [(sees_all,)] = await (await connection.execute(SEES_ALL)).fetchall()
    return [_held(f"{fact}, and {effect}; when it is full, every commit that notifies fails", holders, sees_all)]


def _held(fact: str, holders: Sequence[Row], sees_all: bool) -> Finding:  # noqa: FBT001 - as the server answers
    if not holders:
        return warning(
            "hints",
            f"{fact}; no session is seen that keeps it",
            "look again" if sees_all else "look again as one who sees the sessions of others: GRANT pg_read_all_stats",
        )
    sessions = ", ".join(map(_named, holders))
    return warning(
        "hints",
        f"{fact}; a session that listens keeps it, most likely the first of these: {sessions}",
        f"commit sooner there, or read what arrives; or end it: SELECT pg_terminate_backend({holders[0][0]}); against "
        f"the next one: idle_in_transaction_session_timeout; joined_hints = false keeps hints out of your transactions",
    )


def _named(row: Row) -> str:
    pid, user, application, database, state, is_deaf, seconds, since = row
    by = f" by {application!r}" if application else ""
    how = "takes nothing from the network" if is_deaf else f"{state or 'in a transaction'}"
    return f"{pid} of {user!r}{by} in {database!r}, {how} for {readable(float(seconds))} (since {since} UTC)"
