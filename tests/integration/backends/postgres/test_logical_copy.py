"""A logical copy of a store comes without the values of its sequences; no number is used twice all the same."""

from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from deeper_tasks.backends.postgres import Address, PostgresBackend
from deeper_tasks.testing.conformance.builders import (
    MINUTE,
    NOW,
    join,
    look,
    new_id,
    node_record,
    put_running,
    rescue_all,
)
from deeper_tasks.testing.conformance.schedules import HOURLY

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'deeper'::regnamespace AND relkind = 'r'"
SEQUENCES = "SELECT relname FROM pg_class WHERE relnamespace = 'deeper'::regnamespace AND relkind = 'S'"
DRAW_ONE_THAT_IS_TAKEN = """
CREATE SEQUENCE draws;
CREATE FUNCTION draw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- It stays counted when the insert is rolled back.
    IF nextval('public.draws') = 1 THEN
        NEW.number := (SELECT min(number) FROM deeper.node);
    END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER draw BEFORE INSERT ON deeper.node FOR EACH ROW EXECUTE FUNCTION draw();
"""


def copy_rows(source, target):
    """Copy the rows of all tables, as a dump of the data or a subscription does."""
    with psycopg.connect(source) as reader, psycopg.connect(target) as writer:
        for (name,) in reader.execute(TABLES).fetchall():
            table = sql.Identifier("deeper", name)
            writer.execute(sql.SQL("TRUNCATE {}").format(table))
            with (
                reader.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(table)) as rows,
                writer.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copied,
            ):
                for row in rows:
                    copied.write(row)


@asynccontextmanager
async def opened(url):
    backend = PostgresBackend(Address(conninfo=url))
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()


@pytest.mark.timeout(60)
async def test_a_copy_goes_on_with_the_workers_the_jobs_and_the_recurring_tasks_of_the_original(
    store_url, database_url
):
    async with opened(store_url) as original:
        living = await join(original)
        job = await put_running(original, living)
        await original.put_schedule(HOURLY, now=NOW)
        before = [new_id(), new_id()]
        for each in before:
            await original.run_schedule(HOURLY.name, request_id=each, now=NOW)
    async with opened(database_url) as copy:
        await copy.close()
        copy_rows(store_url, database_url)
        await copy.open()
        newcomer = await join(copy)
        other = await put_running(copy, newcomer, queue="other")
        assert (await copy.beat(living, busy=1, now=NOW)).held.keys() == {job.id}
        assert (await look(copy, job.id)).node == living
        [rescued] = await rescue_all(copy, newcomer)
        assert rescued.id == other.id
        assert (await copy.beat(living, busy=1, now=NOW)).held.keys() == {job.id}
        # The next run is the newest of the history, and the first.
        later = new_id()
        await copy.run_schedule(HOURLY.name, request_id=later, now=NOW + MINUTE)
        assert [run.job for run in await copy.schedule_runs(HOURLY.name)] == [later, *reversed(before)]


def test_no_key_comes_from_a_sequence(store_url):
    with psycopg.connect(store_url) as connection:
        assert connection.execute(SEQUENCES).fetchall() == []


async def test_a_newcomer_that_draws_the_number_of_another_node_takes_another_one(database_url):
    async with opened(database_url) as backend:
        living = await join(backend)
        job = await put_running(backend, living)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(DRAW_ONE_THAT_IS_TAKEN)
        newcomer = await join(backend)
        assert (await node_record(backend, newcomer)).node.id == newcomer
        assert (await backend.beat(newcomer, busy=0, now=NOW)).held == {}
        assert (await backend.beat(living, busy=1, now=NOW)).held.keys() == {job.id}
