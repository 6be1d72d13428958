"""The counters: right at every moment, whoever folds in what they are behind, and cheap also when that is much."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from deeper_tasks.backends.postgres import Address, PostgresBackend, counters
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import NOW

APPENDERS, FOLDERS = 4, 4
JOBS, ROUNDS = 1_000, 150

# Jobs that run and are given back: none is lost, none is new.
THERE_AND_BACK = """
INSERT INTO move (queue, before, after, bucket, count)
SELECT 'queue-' || i % 7, 3, 4, 0, 1 FROM generate_series(1, 14) AS i
UNION ALL
SELECT 'queue-' || i % 7, 4, 3, 0, 1 FROM generate_series(1, 7) AS i
"""
MANY = """
INSERT INTO move (queue, before, after, bucket, count)
SELECT 'queue-' || i % 7, CASE i % 2 WHEN 1 THEN NULL ELSE 3 END, CASE i % 2 WHEN 1 THEN 3 ELSE 4 END, 0, 1
FROM generate_series(1, 100000) AS i
"""


@pytest.fixture
def connected(backend, database_url):
    """Return a connection of its own to the store's schema; all are closed with the test."""
    connections = []

    def connected():
        connection = psycopg.connect(
            database_url, autocommit=True, options="-c search_path=deeper -c statement_timeout=60s"
        )
        connections.append(connection)
        return connection

    yield connected
    for connection in connections:
        connection.close()


def count_of(connection):
    """Return how many jobs the counters say there are."""
    return sum(count for _, _, count in connection.execute(counters.SELECT).fetchall())


def test_four_fold_while_four_append_and_the_sums_are_right_at_every_moment(connected):
    seed = connected()
    seed.execute(
        "INSERT INTO move (queue, after, bucket, count) SELECT 'queue-' || i, 3, 0, %s FROM generate_series(0, 6) AS i",
        [JOBS],
    )
    is_done = threading.Event()

    def append(connection):
        for number in range(ROUNDS):
            with connection.transaction(force_rollback=number % 5 == 0):
                connection.execute(THERE_AND_BACK)

    def fold(connection):
        folded = 0
        while not is_done.is_set():
            connection.execute("SELECT fold()")
            folded += 1
        return folded

    def watch(connection):
        counts = []
        while not is_done.is_set():
            counts.append(count_of(connection))
        return counts

    with ThreadPoolExecutor(APPENDERS + FOLDERS + 1) as pool:
        folding = [pool.submit(fold, connected()) for _ in range(FOLDERS)]
        watching = pool.submit(watch, connected())
        appending = [pool.submit(append, connected()) for _ in range(APPENDERS)]
        try:
            for one in appending:
                one.result(timeout=60)
        finally:
            is_done.set()
        assert all(one.result(timeout=60) for one in folding)
        assert set(watching.result(timeout=60)) == {7 * JOBS}
    seed.execute("SELECT fold()")
    assert seed.execute("SELECT count(*) FROM move").fetchone() == (0,)
    committed = APPENDERS * (ROUNDS - ROUNDS // 5)
    by_state = dict(seed.execute("SELECT state, sum(count) FROM counter GROUP BY state").fetchall())
    assert by_state == {3: 7 * (JOBS - committed), 4: 7 * committed}


async def test_many_moves_behind_are_read_a_few_times_and_folded_ten_thousand_at_a_time(watch, new_watched_database):
    with new_watched_database() as url:
        backend = PostgresBackend(Address(conninfo=url))
        await backend.open()
        try:
            # What is planned now, for no moves at all, the session keeps.
            await backend.fold()
            with psycopg.connect(url, autocommit=True, options="-c search_path=deeper") as connection:
                connection.execute("ALTER TABLE move SET (autovacuum_enabled = off)")
                connection.execute(MANY)
                [(size,)] = connection.execute("SELECT pg_relation_size('move') / 8192").fetchall()
                watch.taken()
                before = await backend.statistics(now=NOW)
                assert sum(plan.pages for plan in watch.taken()) < 4 * size
                left = []
                for _ in range(10):
                    await backend.fold()
                    left += connection.execute("SELECT count(*) FROM move").fetchone()
                plans = watch.taken()
            assert left == list(range(90_000, -1, -10_000))
            after = await backend.statistics(now=NOW)
        finally:
            await backend.close()
    deletes = [node for plan in plans if "DELETE FROM move" in plan.text for node in plan.nodes]
    # Those to fold are looked up where they are, not looked for.
    assert [node["Node Type"] for node in deletes].count("Tid Scan") == 10
    assert before.queues == after.queues
    assert sum(queue.by_state[State.RUNNING] for queue in after.queues.values()) == 50_000
