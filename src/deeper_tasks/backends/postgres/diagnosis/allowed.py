"""The rights: for which uses of the store this user has them, the owners of the schema, and policies that hide rows."""

from __future__ import annotations

from deeper_tasks.backends.postgres import rights
from deeper_tasks.backends.postgres.connecting import Connection
from deeper_tasks.backends.postgres.rights import Rights, Use
from deeper_tasks.backends.protocol import NOT_EXAMINED, RIGHTS
from deeper_tasks.domain.finding import Finding, fault, fine, warning

SELECT_IS_OWN = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s"
SELECT_HIDING = """
SELECT class.relname::text, EXISTS (SELECT FROM pg_policy WHERE polrelid = class.oid)
FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace(%s)::oid AND class.relkind IN ('r', 'p') AND row_security_active(class.oid)
ORDER BY 1
"""

_MOST_NAMED = 5


async def examine(connection: Connection, schema: str) -> tuple[list[Finding], bool]:
    """Return the findings about the rights, and whether this user may look at everything."""
    found = await rights.read(connection, schema)
    may_look = not found.lacking(Use.LOOK)
    findings = await _examine(connection, found)
    return ([*findings, _not_examined(found)] if not may_look else findings), may_look


async def _examine(connection: Connection, found: Rights) -> list[Finding]:
    schema = found.schema
    use = found.intended()
    lacking = found.lacking(use)
    findings = [_of_others(found)] if found.other_owners else []
    if lacking:
        return [_missing(found, use, lacking), *findings]
    [(is_own,)] = await (await connection.execute(SELECT_IS_OWN, [schema])).fetchall()
    hiding = await (await connection.execute(SELECT_HIDING, [rights.quoted(schema)])).fetchall()
    findings += [_hidden(schema, name, has_policy=has_policy) for name, has_policy in hiding]
    return [_allowed(found, is_own=is_own), *findings]


def _allowed(found: Rights, *, is_own: bool) -> Finding:
    may = [use for use in Use if not found.lacking(use)]
    # A user that may look at all jobs may look at one: that is not worth a word.
    shown = [use for use in Use if use is not Use.SEE or Use.LOOK not in may]
    message = f"the user {found.user!r} may {' and '.join(use for use in shown if use in may)}"
    if Use.WORK not in may:
        message += f", and not {' or '.join(use for use in shown if use not in may)}"
    return fine(RIGHTS, message + ("" if is_own else f"; the schema belongs to {found.owner!r}, who migrates it"))


def _not_examined(found: Rights) -> Finding:
    return fine(NOT_EXAMINED, f"the contents of the store are not examined: the user {found.user!r} may not look")


def _of_others(found: Rights) -> Finding:
    owner = rights.quoted(found.owner)
    return warning(
        RIGHTS,
        f"the schema belongs to {found.owner!r}, and parts of it to {', '.join(map(repr, found.other_owners))}: the "
        "owner cannot grant their use, nor migrate them",
        f"as a superuser, for each table and routine of the schema: ALTER … OWNER TO {owner}; what 'deeper migrate "
        f"--sql' prints makes them for the user who runs it: let that be after SET ROLE {owner}",
    )


def _missing(found: Rights, use: Use, lacking: list[str]) -> Finding:
    more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
    return fault(
        RIGHTS,
        f"to {use}, the user {found.user!r} lacks {', '.join(lacking[:_MOST_NAMED])}{more}",
        f"{found.granting}: {rights.grants(use, schema=found.schema, user=found.user)}",
    )


def _hidden(schema: str, name: str, *, has_policy: bool) -> Finding:
    remedy = f"ALTER TABLE {rights.quoted(schema)}.{name} DISABLE ROW LEVEL SECURITY"
    fact = f"row-level security of {schema}.{name} applies to this user"
    if has_policy:
        return warning("row-level security", f"{fact}: what its policies hide counts as not there", remedy)
    return fault("row-level security", f"{fact} and has no policy: no row is seen, and none can be written", remedy)
