"""The thread of lists: a long search holds up nobody else, and ends when nobody waits for it."""

import asyncio
import threading

import pytest

from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.backends.sqlite import listing
from deeper_tasks.testing.conformance.builders import put

ENDLESS = "WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number) SELECT count(*) FROM number"


async def test_a_long_list_delays_neither_a_look_at_one_job_nor_statistics_nor_a_write(backend, monkeypatch):
    job_id = await put(backend)
    is_listing, may_end = threading.Event(), threading.Event()

    def find(*_, **__):
        is_listing.set()
        assert may_end.wait(30)

    monkeypatch.setattr(listing, "find", find)
    listed = asyncio.create_task(backend.find(JobQuery()))
    await asyncio.to_thread(is_listing.wait, 30)
    try:
        async with asyncio.timeout(30):
            assert (await backend.get(job_id)).id == job_id
            assert "default" in (await backend.statistics()).queues
            await put(backend)
        assert not listed.done()
    finally:
        may_end.set()
    await listed


async def test_a_search_ends_when_its_caller_has_gone(backend, monkeypatch):
    is_listing = threading.Event()
    find = listing.find

    def search(connection, **_):
        is_listing.set()
        connection.execute(ENDLESS).fetchall()

    monkeypatch.setattr(listing, "find", search)
    listed = asyncio.create_task(backend.find(JobQuery()))
    await asyncio.to_thread(is_listing.wait, 30)
    listed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listed
    monkeypatch.setattr(listing, "find", find)
    async with asyncio.timeout(30):
        assert (await backend.find(JobQuery())).jobs == ()
