"""Writing: whether new sessions of this user may write, and the settings that prevent it."""

from __future__ import annotations

from collections.abc import Iterator

from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.domain.finding import Finding, fault

SELECT_MODE = """
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', current_database()::text,
    session_user::text, (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only')
"""

_CHECK = "writing"
_SET_AT = {
    "database": ("for the database", 'ALTER DATABASE "{database}" RESET default_transaction_read_only'),
    "user": ("for the user", 'ALTER ROLE "{user}" RESET default_transaction_read_only'),
    "database user": (
        "for the user in this database",
        'ALTER ROLE "{user}" IN DATABASE "{database}" RESET default_transaction_read_only',
    ),
    "client": ("by the store's URL or PGOPTIONS", "leave default_transaction_read_only out of the options there"),
    "global": ("for all users", "ALTER ROLE ALL RESET default_transaction_read_only"),
    "configuration file": (
        "for the whole server",
        "ALTER SYSTEM SET default_transaction_read_only = off; SELECT pg_reload_conf()",
    ),
}
"""By the source of the setting: where it was set, and the statement that resets it."""


async def examine(connection: Connection) -> list[Finding]:
    """Return the findings about settings that keep this session from writing."""
    [mode] = await (await connection.execute(SELECT_MODE)).fetchall()
    return list(_findings(*mode))


def _findings(is_standby: bool, is_read_only: bool, database: str, user: str, source: str) -> Iterator[Finding]:  # noqa: FBT001 - a row
    if is_standby:
        yield fault(
            _CHECK,
            "this server is a standby and only reads: no job can be enqueued, run or ended here",
            "name the primary in the store's URL, or all servers of the cluster: "
            "postgresql://…@one,two/…?target_session_attrs=read-write",
        )
    elif is_read_only:
        where, remedy = _SET_AT.get(source, ("by a pooler or another program", "set it off there"))
        yield fault(
            _CHECK,
            f"sessions only read (default_transaction_read_only is on, set {where}): no job can be enqueued, run or "
            "ended",
            f"see why it was set, a full disk for example, and then: {remedy.format(database=database, user=user)}; "
            "living workers and producers notice within a second",
        )
