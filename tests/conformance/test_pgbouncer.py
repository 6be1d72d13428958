"""The PostgreSQL store keeps its promises where each transaction may meet another session: behind a PgBouncer."""

from contextlib import closing

import pytest

from callers import new_ledger
from deeper_tasks.backends.postgres import Address, Pooler, PostgresBackend
from deeper_tasks.testing import JobTransactionConformance, SharedConformance
from deeper_tasks.testing.conformance.builders import check_counters
from deeper_tasks.testing.conformance.claim import ClaimConformance
from deeper_tasks.testing.conformance.concurrency import ConcurrencyConformance
from deeper_tasks.testing.conformance.hints import HintsConformance
from deeper_tasks.testing.conformance.insert import InsertConformance
from deeper_tasks.testing.conformance.life import LifeConformance
from deeper_tasks.testing.conformance.maintenance import MaintenanceConformance
from deeper_tasks.testing.conformance.nodes import NodeConformance
from deeper_tasks.testing.conformance.settle import SettleConformance
from deeper_tasks.testing.conformance.shared import SharingConformance
from deeper_tasks.testing.conformance.unique import UniqueConformance
from servers.pgbouncer import PgBouncer, pgbouncer_program
from servers.ports import address_of, at_port

_SETTINGS = {
    "default_pool_size": "5",
    # The next transaction of a client goes to another session than its last, wherever there are two.
    "server_round_robin": "1",
}


@pytest.fixture(scope="module")
def pooler(postgres):
    if pgbouncer_program() is None:
        pytest.skip("pgbouncer is not installed")
    with closing(PgBouncer(postgres.url, settings=_SETTINGS)) as pooler:
        yield pooler


class TestPostgresBackendBehindPgBouncer(
    JobTransactionConformance,
    SharedConformance,
    LifeConformance,
    InsertConformance,
    UniqueConformance,
    ClaimConformance,
    SettleConformance,
    NodeConformance,
    MaintenanceConformance,
    HintsConformance,
    ConcurrencyConformance,
    SharingConformance,
):
    """The parts whose statements lock, race or say how they are to be run: what could lean on a session."""

    @pytest.fixture(autouse=True)
    async def _counters_equal_a_recount(self, backend):
        yield
        await check_counters(backend)

    @pytest.fixture
    def address(self, pooler, database_url):
        _, port = address_of(pooler.url)
        return Address(conninfo=at_port(database_url, port), pooler=Pooler.TRANSACTION, listen_conninfo=database_url)

    @pytest.fixture
    def ledger(self, database_url):
        with new_ledger(database_url) as ledger:
            yield ledger

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
