"""The PostgreSQL store keeps the promises of the protocol."""

import pytest

from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
from deeper_tasks.testing import BackendConformance, SharedConformance


class TestPostgresBackend(SharedConformance, BackendConformance):
    @pytest.fixture
    def database_url(self, store_url):
        return store_url

    @pytest.fixture
    def address(self, database_url):
        return Address(conninfo=database_url)

    @pytest.fixture
    async def backend(self, address):
        backend = PostgresBackend(address)
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def other(self, backend, address):
        other = PostgresBackend(address)
        await other.open()
        yield other
        await other.close()


HOSTILE = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "check_function_bodies": "off",
    "client_encoding": "LATIN1",
    "default_toast_compression": "pglz",
    "default_transaction_deferrable": "on",
    "extra_float_digits": "-15",
    "lc_messages": "C",
    "plpgsql.extra_errors": "all",
    "plpgsql.variable_conflict": "use_variable",
    "quote_all_identifiers": "on",
    "search_path": "elsewhere",
    "standard_conforming_strings": "off",
    "transform_null_equals": "on",
    "enable_indexscan": "off",
}
"""What no statement may depend on, whoever opens the session."""


class TestPostgresBackendElsewhere(TestPostgresBackend):
    """In another schema, in sessions that begin with the settings that fit us least, and that set nothing."""

    @pytest.fixture
    def address(self, make_store):
        return make_store("elsewhere", settings=HOSTILE, schema="user", pooler=Pooler.TRANSACTION).empty()

    @pytest.fixture
    def database_url(self, address):
        return address.conninfo
