"""A store of a server: a database that has our schema, made once for many tests and emptied for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg import sql

from deeper_tasks.backends.postgres import Address, schema
from servers.server import Server

_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND relname <> ALL (%s)"
_KEPT = ["migration", "store"]
_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


class Store:
    """
    The store at an address. `empty` gives it back as new, whatever the test before has left.

    That takes a tenth of the time of a new database. A test that changes the schema, or that wants the database
    or the store's id for itself, takes a database of its own: the fixture `database_url`.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        with psycopg.connect(address.conninfo, autocommit=True, connect_timeout=30) as connection:
            connection.execute(schema.script(address, schema.known_migrations(), is_new=True))
            names = [row[0] for row in connection.execute(_TABLES, [address.schema, _KEPT])]
        tables = sql.SQL(", ").join(sql.Identifier(address.schema, name) for name in names)
        self._truncate = sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables)

    def empty(self) -> Address:
        """Delete everything but the store's id, also from under a connection that was left open; gives the address."""
        with psycopg.connect(self.address.conninfo, autocommit=True, connect_timeout=30) as connection:
            connection.execute(_OTHERS, [connection.info.dbname])
            connection.execute(self._truncate)
        return self.address


@contextmanager
def new_store(server: Server, *, settings: Mapping[str, str] | None = None, **options: object) -> Iterator[Store]:
    """Make a store in a database of its own, whose sessions begin with `settings`; `options` are the address's."""
    with server.new_database() as url:
        for name, value in (settings or {}).items():
            server.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(psycopg.conninfo.conninfo_to_dict(url)["dbname"]),
                    sql.SQL(".").join(map(sql.Identifier, name.split("."))),
                    sql.Literal(value),
                )
            )
        yield Store(Address(conninfo=url, **options))
