"""The commit watch after a fork: the child has no part in it."""

import asyncio
import os
import threading

import pytest

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.manager.commits import CommitWatch
from deeper_tasks.testing.conformance.builders import new_job


@pytest.fixture
async def backend():
    backend = MemoryBackend()
    await backend.open()
    yield backend
    await backend.close()


async def test_a_forked_child_leaves_the_watch_to_its_parent(backend):
    watch = CommitWatch(backend)
    job = new_job()
    jobs = []

    async def tell():
        jobs.append(job.request_id)

    watch.expect(job.request_id, tell)
    child = os.fork()
    if child == 0:
        try:
            # Nothing is expected here, so it waits for nothing.
            watch.close().send(None)
        except StopIteration:
            os._exit(0)
        finally:
            os._exit(1)
    assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
    assert any(thread.name == "deeper-commits" for thread in threading.enumerate())
    await backend.insert([job])
    await watch.close()
    assert jobs == [job.request_id]
