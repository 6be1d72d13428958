"""The examination: first the server, then everything in the schema, if there is one."""

from __future__ import annotations

from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.backends.postgres.database import Database
from deeper_tasks.backends.postgres.diagnosis import allowed, counters, hints, server, snapshots, tables, writing
from deeper_tasks.backends.protocol import BROKEN_OFF
from deeper_tasks.domain.finding import Finding, fault
from deeper_tasks.errors import AccessError, BackendError

_ANSWERED = "FATAL: "
"""The beginning of the server's message, in most languages, when it ends a session that has just begun."""
SELECT_SCHEMA = "SELECT to_regnamespace(%s) IS NOT NULL"


async def examine(database: Database, *, deep: bool) -> list[Finding]:
    """Return the findings, good and bad, and change nothing. If an error ends it, that is the last finding."""
    findings: list[Finding] = []
    try:
        async with database.lend_without_deadline() as connection:
            findings += await server.examine(connection)
            findings += await writing.examine(connection)
            findings += await snapshots.examine(connection)
            findings += await hints.examine(connection)
            findings += await _examine_schema(connection, database.address.schema, deep=deep)
    except BackendError as error:
        findings.append(fault(BROKEN_OFF, str(error), _remedy(error)))
    return findings


def _remedy(error: BackendError) -> str:
    if isinstance(error, AccessError):
        return "see the message"
    if _ANSWERED in str(error):
        return (
            "the server answers, and turns this session away: see to the user, the password and the database in the "
            "store's URL, and to what the server lets in"
        )
    return "see to the server and the network, or correct the store's URL"


async def _examine_schema(connection: Connection, schema: str, *, deep: bool) -> list[Finding]:
    [(is_there,)] = await (await connection.execute(SELECT_SCHEMA, [f'"{schema}"'])).fetchall()
    if not is_there:
        return []  # opening the store reports that
    findings, may_look = await allowed.examine(connection, schema)
    if not may_look:
        return findings
    return [
        *findings,
        *await tables.examine(connection, schema),
        *await counters.examine(connection, schema, deep=deep),
    ]
