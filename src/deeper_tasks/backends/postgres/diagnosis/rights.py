"""The rights: whether this user may do with our tables and functions all that a worker does."""

from __future__ import annotations

from deeper_tasks.backends.postgres.connections import Connection
from deeper_tasks.domain.finding import Finding, fault

SELECT_RIGHTS = """
SELECT current_user::text, has_schema_privilege(%(schema)s, 'USAGE')
"""
SELECT_TABLE_RIGHTS = """
SELECT class.relname::text, needed.name
FROM pg_class AS class
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed (name)
WHERE class.relnamespace = to_regnamespace(%(quoted)s)::oid AND class.relkind = 'r'
    AND class.relname NOT IN ('migration', 'store') AND NOT has_table_privilege(class.oid, needed.name)
UNION ALL
SELECT class.relname::text, 'SELECT'
FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace(%(quoted)s)::oid AND class.relname IN ('migration', 'store')
    AND class.relkind = 'r' AND NOT has_table_privilege(class.oid, 'SELECT')
UNION ALL
SELECT function.proname::text, 'EXECUTE'
FROM pg_proc AS function
WHERE function.pronamespace = to_regnamespace(%(quoted)s)::oid AND NOT has_function_privilege(function.oid, 'EXECUTE')
ORDER BY 1, 2
"""

_MOST_NAMED = 5


async def examine(connection: Connection, schema: str) -> list[Finding]:
    """Return what is missing; nothing where nothing is."""
    names = {"schema": schema, "quoted": f'"{schema}"'}
    [(user, has_usage)] = await (await connection.execute(SELECT_RIGHTS, names)).fetchall()
    if not has_usage:
        missing = [f"USAGE of the schema {schema}"]
    else:
        rows = await (await connection.execute(SELECT_TABLE_RIGHTS, names)).fetchall()
        missing = [f"{right} of {schema}.{name}" for name, right in rows]
    if not missing:
        return []
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    return [
        fault(
            "rights",
            f"the user {user!r} lacks {', '.join(missing[:_MOST_NAMED])}{more}",
            f'as the owner: GRANT USAGE ON SCHEMA "{schema}" TO "{user}"; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL '
            f'TABLES IN SCHEMA "{schema}" TO "{user}"; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA "{schema}" TO "{user}"',
        )
    ]
