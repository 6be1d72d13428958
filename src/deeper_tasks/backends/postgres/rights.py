"""The rights that a user needs in the schema for each use, those that it lacks, and the statements that grant them."""

from __future__ import annotations

import re
from enum import StrEnum

import psycopg

from deeper_tasks.backends.postgres.connecting import Connection

SELECT_USER = """
SELECT current_user::text, has_schema_privilege(%(schema)s, 'USAGE'),
    (SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = %(schema)s)
"""
SELECT_OBJECTS = """
SELECT class.relname::text, pg_get_userbyid(class.relowner)::text, ARRAY (
    SELECT needed.name
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed (name)
    WHERE NOT has_table_privilege(class.oid, needed.name)
)
FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace(%(quoted)s)::oid AND class.relkind IN ('r', 'p')
UNION ALL
SELECT 'node (id, number)', NULL, ARRAY['SELECT'] FROM pg_class AS class
WHERE class.relnamespace = to_regnamespace(%(quoted)s)::oid AND class.relname = 'node' AND EXISTS (
    SELECT FROM pg_attribute AS attribute
    WHERE attribute.attrelid = class.oid AND attribute.attname IN ('id', 'number')
        AND NOT has_column_privilege(class.oid, attribute.attnum, 'SELECT')
)
UNION ALL
SELECT routine.proname::text, pg_get_userbyid(routine.proowner)::text,
    CASE WHEN has_function_privilege(routine.oid, 'EXECUTE') THEN '{}' ELSE ARRAY['EXECUTE'] END
FROM pg_proc AS routine WHERE routine.pronamespace = to_regnamespace(%(quoted)s)::oid
ORDER BY 1
"""

_TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_EXECUTE = ("EXECUTE",)
_ONLY_READ = frozenset({"migration", "store"})
_ENQUEUED = {
    "migration": ("SELECT",),
    "store": ("SELECT",),
    "job": ("SELECT", "INSERT"),
    "move": ("SELECT", "INSERT"),
    "unique_key": ("SELECT", "INSERT", "DELETE"),
}
_OF_NODE = "node (id, number)"
_SEEN = {
    "migration": ("SELECT",),
    "store": ("SELECT",),
    "job": ("SELECT",),
    _OF_NODE: ("SELECT",),
}
"""A look at a job needs only one thing of the workers: the name of the one that runs the job."""
_NAMED = re.compile(r"([^\s\"«»„“”']+)[\"»“”']?$")


class Use(StrEnum):
    """A use of the store that a user of the database may have rights for, as messages name it."""

    LOOK = "look"
    ENQUEUE = "enqueue"
    SEE = "see a job by its id"
    WORK = "work"


Missing = dict[str, tuple[str, ...]]
"""The rights that a user lacks, by the table or the routine; a routine is here only if its EXECUTE is missing."""


class Rights:
    """The rights that a user lacks in the schema."""

    def __init__(
        self, *, user: str, schema: str, owner: str, has_usage: bool, missing: Missing, owners: dict[str, str]
    ) -> None:
        self.user = user
        self.schema = schema
        self.owner = owner
        self.has_usage = has_usage
        self._missing = missing
        self._owners = owners

    @property
    def other_owners(self) -> list[str]:
        """The users, other than the schema's owner, that own a part of it."""
        return sorted({*self._owners.values()} - {self.owner})

    @property
    def granting(self) -> str:
        """The beginning of a message: the user that can grant rights in the schema."""
        if self.other_owners:
            return f"as a superuser (parts of the schema belong to {', '.join(map(repr, self.other_owners))})"
        return f"as the owner {self.owner!r}"

    def lacking(self, use: Use) -> list[str]:
        """Return the rights that are missing for a use, as messages name them; none if the use is allowed."""
        if not self.has_usage:
            return [f"USAGE of the schema {self.schema}"]
        return [
            f"{right} of {self.schema}.{name}"
            for name, rights in self._missing.items()
            for right in rights
            if rights == _EXECUTE or right in _needed(use, name)
        ]

    def intended(self) -> Use:
        """Return the use that the user's rights suggest; work, if it has none."""
        job = self._missing.get("job", ())
        if not self.has_usage or "UPDATE" not in job or len(job) == len(_TABLE_RIGHTS):
            return Use.WORK
        return Use.LOOK if "INSERT" in job else Use.ENQUEUE

    def of_object(self, name: str) -> str | None:
        """Return the rights missing on the schema, a table or a routine, and their grant; None if none is missing."""
        user, schema = quoted(self.user), quoted(self.schema)
        if not self.has_usage:
            granting = f"as the owner {self.owner!r}: GRANT USAGE ON SCHEMA {schema} TO {user}"
            return f"the user {self.user!r} lacks its USAGE; {granting}"
        rights = self._missing.get(name, ())
        if not rights:
            return None
        owner = self._owners.get(name, self.owner)
        lacks = (
            f"the user {self.user!r} lacks {', '.join(rights)} of {self.schema}.{name}; as the owner {owner!r}: GRANT "
        )
        if rights == _EXECUTE:
            return f"{lacks}EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {user}"
        return f"{lacks}{', '.join(rights)} ON {schema}.{name} TO {user}, or what of that it is to have"


def grants(use: Use, *, schema: str, user: str) -> str:
    """Return the statements, for the owner of the schema, that give a user the rights for a use."""
    to, name = quoted(user) if user else "…", quoted(schema)
    statements = [f"GRANT USAGE ON SCHEMA {name} TO {to}"]
    if use is Use.ENQUEUE:
        by_rights: dict[tuple[str, ...], list[str]] = {}
        for table, rights in _ENQUEUED.items():
            by_rights.setdefault(rights, []).append(f"{name}.{table}")
        statements += [f"GRANT {', '.join(rights)} ON {', '.join(each)} TO {to}" for rights, each in by_rights.items()]
        statements.append(f"GRANT SELECT (id, number) ON {name}.node TO {to}")
    else:
        rights = _TABLE_RIGHTS if use is Use.WORK else ("SELECT",)
        statements.append(f"GRANT {', '.join(rights)} ON ALL TABLES IN SCHEMA {name} TO {to}")
        if use is Use.WORK:
            read = ", ".join(f"{name}.{table}" for table in sorted(_ONLY_READ))
            statements.append(f"REVOKE {', '.join(rights[1:])} ON {read} FROM {to}")
    # Functions and procedures.
    statements.append(f"GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {name} TO {to}")
    return "; ".join(statements)


async def read(connection: Connection, schema: str) -> Rights:
    """Read the rights that the user of a connection lacks."""
    names = {"schema": schema, "quoted": quoted(schema)}
    [(user, has_usage, owner)] = await (await connection.execute(SELECT_USER, names)).fetchall()
    rows = await (await connection.execute(SELECT_OBJECTS, names)).fetchall()
    return Rights(
        user=user,
        schema=schema,
        owner=owner,
        has_usage=has_usage,
        missing={name: tuple(rights) for name, _, rights in rows if rights},
        owners={name: owner for name, owner, _ in rows if owner},
    )


def object_of(error: psycopg.Error) -> str:
    """Return the table, routine or schema that a user may not use: the server names it last, in every language."""
    found = _NAMED.search(error.diag.message_primary or "")
    return found[1] if found else ""


def quoted(name: str) -> str:
    """Return a name with the quotes of SQL."""
    return '"' + name.replace('"', '""') + '"'


def _needed(use: Use, table: str) -> tuple[str, ...]:
    match use:
        case Use.ENQUEUE:
            return _ENQUEUED.get(table, ())
        case Use.SEE:
            return _SEEN.get(table, ())
        case _ if table == _OF_NODE:
            return ()
        case Use.WORK if table not in _ONLY_READ:
            return _TABLE_RIGHTS
        case _:
            return ("SELECT",)
