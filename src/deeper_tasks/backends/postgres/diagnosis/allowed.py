"""What is allowed: for which use of the store this user has the rights, whose it is, and what hides rows."""

from __future__ import annotations

from deeper_tasks.backends.postgres import rights
from deeper_tasks.backends.postgres.connections import Connection
from deeper_tasks.backends.postgres.rights import Rights, Use
from deeper_tasks.domain.finding import Finding, fault, fine, warning

SELECT_OWNER = """
SELECT pg_get_userbyid(nspowner)::text, pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = %s
"""
SELECT_HIDING = """
SELECT class.relname::text, EXISTS (SELECT FROM pg_policy WHERE polrelid = class.oid)
FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace(%s)::oid AND class.relkind IN ('r', 'p') AND row_security_active(class.oid)
ORDER BY 1
"""

_CHECK = "rights"
_MOST_NAMED = 5


async def examine(connection: Connection, schema: str) -> tuple[list[Finding], bool]:
    """Return what is found about the rights, and whether this user may look at everything."""
    found = await rights.read(connection, schema)
    meant = found.meant()
    lacking = found.lacking(meant)
    if lacking:
        return [_missing(found, meant, lacking)], not found.lacking(Use.LOOK)
    [(owner, is_own)] = await (await connection.execute(SELECT_OWNER, [schema])).fetchall()
    hiding = await (await connection.execute(SELECT_HIDING, [rights.quoted(schema)])).fetchall()
    findings = [_hidden(schema, name, has_policy=has_policy) for name, has_policy in hiding]
    may_look = not found.lacking(Use.LOOK)
    return [_allowed(found, owner, is_own=is_own), *findings], may_look


def _allowed(found: Rights, owner: str, *, is_own: bool) -> Finding:
    may = [use for use in Use if not found.lacking(use)]
    told = f"the user {found.user!r} may {' and '.join(may)}"
    if Use.WORK not in may:
        told += f", and not {' or '.join(use for use in Use if use not in may)}"
    if Use.LOOK not in may:
        told += ": what goes on in the store cannot be examined as this user"
    return fine(_CHECK, told + ("" if is_own else f"; the schema belongs to {owner!r}, who migrates it"))


def _missing(found: Rights, meant: Use, lacking: list[str]) -> Finding:
    more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
    return fault(
        _CHECK,
        f"to {meant}, the user {found.user!r} lacks {', '.join(lacking[:_MOST_NAMED])}{more}",
        f"as the owner: {rights.grants(meant, schema=found.schema, user=found.user)}",
    )


def _hidden(schema: str, name: str, *, has_policy: bool) -> Finding:
    remedy = f"ALTER TABLE {rights.quoted(schema)}.{name} DISABLE ROW LEVEL SECURITY"
    told = f"row-level security of {schema}.{name} applies to this user"
    if has_policy:
        return warning("row-level security", f"{told}: what its policies hide counts as not there", remedy)
    return fault("row-level security", f"{told} and has no policy: no row is seen, and none can be written", remedy)
