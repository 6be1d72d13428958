"""What the tests of the PostgreSQL store share."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from deeper_tasks.backends.postgres import Address, PostgresBackend, connections

EXPLAINING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_settings": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "auto_explain.log_level": "notice",
    # Whatever may be split between processes is.
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "min_parallel_index_scan_size": "0",
}


class Plan:
    """What the server did for one statement, as it tells itself."""

    def __init__(self, document):
        self.text = " ".join(document["Query Text"].split())
        self.root = document["Plan"]
        # Of the planner, where they are not the server's own.
        self.settings = document.get("Settings", {})

    @property
    def nodes(self) -> Iterator[dict]:
        """All nodes of the plan."""
        left = [self.root]
        while left:
            node = left.pop()
            left += node.get("Plans", ())
            yield node

    @property
    def scans(self):
        """What reads tables, by the table and the index (None: the whole table), and how many rows it looked at."""
        for node in self.nodes:
            if node["Node Type"] == "Bitmap Index Scan":
                # The index, without its table.
                yield node["Index Name"].partition("_")[0], node["Index Name"], read(node)
            elif node["Node Type"].endswith("Scan") and "Relation Name" in node and "Bitmap" not in node["Node Type"]:
                yield node["Relation Name"], node.get("Index Name"), read(node)

    @property
    def pages(self):
        """How many pages it touched."""
        return self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"]


def read(node):
    each = sum(
        node.get(count, 0) for count in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    )
    return each * node["Actual Loops"]


class Watch:
    """Notes the plan of every statement that the stores of this process run, also of those within functions."""

    def __init__(self):
        self.plans = []

    def hear(self, notice):
        found = re.match(r"duration: \S+ ms  plan:\n", notice.message_primary)
        if found:
            self.plans.append(Plan(json.loads(notice.message_primary[found.end() :])))

    def taken(self):
        """Return the plans since this was asked last."""
        plans, self.plans = self.plans, []
        return plans


@pytest.fixture(scope="module")
def watch():
    """A `Watch` over all connections that stores open in databases of `new_watched_database`."""
    watch = Watch()
    connect = connections.connect

    async def connect_watched(*arguments, **options):
        connection = await connect(*arguments, **options)
        connection.add_notice_handler(watch.hear)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "connect", connect_watched)
        yield watch


@pytest.fixture(scope="module")
def new_watched_database(postgres):
    """Return a context of an empty database that explains what it does."""

    @contextmanager
    def new_watched_database():
        with postgres.new_database() as url:
            name = sql.Identifier(url.rpartition("/")[2])
            for setting, value in EXPLAINING.items():
                setting_name = sql.SQL(".").join(map(sql.Identifier, setting.split(".")))
                postgres.execute(
                    sql.SQL("ALTER DATABASE {} SET {} TO {}").format(name, setting_name, sql.Literal(value))
                )
            yield url

    return new_watched_database


@pytest.fixture
async def backend(database_url):
    """An open store in a database of its own."""
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def query(database_url):
    """Return a way to run a statement in the store's schema, on a connection of its own."""

    def query(statement, *values):
        with psycopg.connect(database_url, autocommit=True, options="-c search_path=deeper") as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    return query
