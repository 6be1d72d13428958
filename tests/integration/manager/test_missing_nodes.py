"""Running jobs whose node is not there, as in a copy of some of the tables: they are rescued, after a lease."""

import sqlite3
from contextlib import closing

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.backends.protocol import Retention
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.state import State
from deeper_tasks.errors import NodeLostError
from deeper_tasks.testing.conformance.builders import NOW, join, put_running, rescue_all, settle, state_of


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request, tmp_path):
    """A store, and what deletes all its nodes behind its back."""
    if request.param == "sqlite":
        path = tmp_path / "tasks.db"
        backend = SQLiteBackend(path)

        def delete_nodes():
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("DELETE FROM deeper_node")
    else:
        url = request.getfixturevalue("store_url")
        backend = PostgresBackend(Address(conninfo=url))

        def delete_nodes():
            with psycopg.connect(url) as connection:
                connection.execute("DELETE FROM deeper.node")

    await backend.open()
    yield backend, delete_nodes
    await backend.close()


async def test_a_job_whose_node_is_not_there_is_rescued_from_a_stand_in_that_never_beats(store):
    backend, delete_nodes = store
    living = await join(backend)
    lost, ended = [await put_running(backend, living, queue=queue) for queue in ("one", "other")]
    delete_nodes()
    for _ in range(2):
        await backend.prune(Retention(), now=NOW)
    [record] = await backend.nodes()
    assert (record.node.host, record.node.scope, record.beat, record.is_lost) == ("", "", 0, False)
    # Its worker lives: it is told that it has lost its jobs, and may settle those that no rescue has reached.
    with pytest.raises(NodeLostError):
        await backend.beat(living, busy=2, now=NOW)
    assert len(await settle(backend, [ended])) == 1
    newcomer = await join(backend)
    assert (await backend.beat(newcomer, busy=0, now=NOW)).held == {}
    [rescued] = await rescue_all(backend, record.node.id)
    assert (rescued.id, await state_of(backend, lost.id)) == (lost.id, State.PENDING)
    assert [record.node.id for record in await backend.nodes()] == [newcomer]


async def test_nothing_stands_in_for_a_node_that_is_there(store):
    backend, _ = store
    node = await join(backend)
    await put_running(backend, node)
    await backend.prune(Retention(), now=NOW)
    assert [record.node.id for record in await backend.nodes()] == [node]
