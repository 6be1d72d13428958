"""Prune: beside old jobs goes what nobody needs any more, all of it."""

from datetime import timedelta

import pytest

from deeper_tasks.backends.protocol import MAX_BATCH, JobFilter, Retention
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import BackendError
from deeper_tasks.testing.conformance.builders import DAY, MINUTE, NOW, join, new_job, put_many, settle, take_all

SOON = timedelta(seconds=10)
KEEP = Retention(completed=None, failed=None)


async def test_all_unique_keys_that_have_expired_go_however_many_there_are(backend, query):
    keys = [Unique(key=f"key-{number}", period=SOON) for number in range(3 * MAX_BATCH + 1)]
    await backend.insert([new_job(unique=key) for key in keys], now=NOW)
    await backend.insert([new_job(unique=Unique(key="held", period=DAY))], now=NOW)
    assert await backend.prune(KEEP, now=NOW + MINUTE) == 0
    assert query("SELECT key FROM deeper_unique_key") == [("held",)]


async def test_what_counted_the_ends_of_more_than_25_hours_ago_goes(backend, query):
    node = await join(backend)
    for ten_minutes in range(0, 160, 10):
        await put_many(backend, 1)
        await settle(backend, await take_all(backend, node), End.COMPLETE, now=NOW + ten_minutes * 10 * MINUTE)
    kept = "SELECT bucket FROM deeper_counter WHERE bucket > 0 ORDER BY bucket"
    last = query(kept)[-1][0]
    assert [bucket for (bucket,) in query(kept)] == list(range(last - 150, last + 1, 10))
    await backend.prune(KEEP, now=NOW + 170 * 10 * MINUTE)
    assert [bucket for (bucket,) in query(kept)] == list(range(last - 130, last + 1, 10))


async def test_a_queue_that_has_no_jobs_any_more_is_forgotten(backend):
    await put_many(backend, 1, queue="once")
    await put_many(backend, 1, queue="still")
    await backend.delete(JobFilter(queue="once"))
    await backend.prune(KEEP, now=NOW)
    assert (await backend.statistics(now=NOW)).queues.keys() == {"still"}


@pytest.mark.parametrize("table", ["deeper_job", "deeper_unique_key", "deeper_counter"])
async def test_a_step_that_is_refused_stops_no_other_and_is_told(backend, query, table):
    node = await join(backend)
    await put_many(backend, 1)
    await settle(backend, await take_all(backend, node), now=NOW)
    await backend.insert([new_job(unique=Unique(key="old", period=SOON))], now=NOW)
    # As an application may do whose own tables are in the same file.
    query(f"CREATE TRIGGER kept BEFORE DELETE ON {table} BEGIN SELECT RAISE(ABORT, 'rows are kept'); END")
    with pytest.raises(BackendError, match="rows are kept"):
        await backend.prune(Retention(completed=timedelta(0), failed=None), now=NOW + 2 * DAY)
    left = {
        "deeper_job": query("SELECT count(*) FROM deeper_job WHERE state = 6"),
        "deeper_unique_key": query("SELECT count(*) FROM deeper_unique_key"),
        "deeper_counter": query("SELECT count(*) FROM deeper_counter WHERE bucket > 0"),
    }
    assert {name for name, [(count,)] in left.items() if count} == {table}
