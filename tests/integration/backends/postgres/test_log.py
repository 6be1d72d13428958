"""What an ordinary job costs of the write-ahead log, from its insert to its end."""

import os

import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import MAX_BATCH
from deeper_tasks.testing.conformance.builders import join, put_many, settle, take_all

JOBS = 6_000
MOST_BYTES = 1_200


@pytest.fixture
async def backend(database_url):
    backend = PostgresBackend(Address(conninfo=database_url))
    await backend.open()
    yield backend
    await backend.close()


async def test_a_job_logs_at_most_1200_bytes_in_its_whole_life(backend, postgres, given_postgres):
    if given_postgres and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("the tests beside this one write to the same server's log")
    node = await join(backend)
    # Whole pages are logged after a checkpoint, by servers that are set so: that is of the server, not of a job.
    postgres.execute("CHECKPOINT")
    [[before]] = postgres.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
    for _ in range(0, JOBS, MAX_BATCH):
        await put_many(backend, MAX_BATCH)
        await settle(backend, await take_all(backend, node))
    [[after]] = postgres.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
    assert (after - before) / JOBS <= MOST_BYTES
