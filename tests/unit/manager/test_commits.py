"""The commit watch: what is expected is told of once, when it is there, and given up when it does not come."""

import asyncio
import gc
import threading
import warnings

import pytest

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.manager.commits import CommitWatch
from deeper_tasks.testing.conformance.builders import new_job


class Told:
    """Notes what it was told of, and in which thread."""

    def __init__(self):
        self.jobs = []
        self.threads = set()

    def of(self, name):
        async def tell():
            self.jobs.append(name)
            self.threads.add(threading.current_thread().name)

        return tell


@pytest.fixture
async def backend():
    backend = MemoryBackend()
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def told():
    return Told()


@pytest.fixture
async def watch(backend):
    watch = CommitWatch(backend)
    yield watch
    await watch.close()


def is_watching():
    return any(thread.name == "deeper-commits" for thread in threading.enumerate())


async def test_a_job_is_told_of_once_when_it_is_there(backend, watch, told, wait_until):
    jobs = [new_job() for _ in range(5)]
    for job in jobs:
        watch.expect(job.request_id, told.of(job.request_id))
    await wait_until(lambda: watch._expected and watch._expected[0].pause > 0.01)
    assert told.jobs == []
    for job in reversed(jobs):
        await backend.insert([job])
        await wait_until(lambda job=job: job.request_id in told.jobs)
    assert told.jobs == [job.request_id for job in reversed(jobs)]
    assert told.threads == {"deeper-commits"}
    assert watch._expected == []


async def test_the_pauses_grow_up_to_a_quarter_of_a_second(watch, told, wait_until):
    watch.expect(new_job().request_id, told.of("never"))
    await wait_until(lambda: watch._expected and watch._expected[0].pause == 0.25)


async def test_a_job_that_does_not_come_is_given_up(backend, told, wait_until):
    watch = CommitWatch(backend, patience=0.01)
    job = new_job()
    watch.expect(job.request_id, told.of(job.request_id))
    await wait_until(lambda: watch._looking is not None and watch._looking.done() and not watch._expected)
    await backend.insert([job])
    await watch.close()
    assert told.jobs == []


async def test_the_watch_looks_a_last_time_when_it_is_closed(backend, watch, told):
    there, missing = new_job(), new_job()
    for _ in range(3):
        watch.expect(missing.request_id, told.of("missing"))
        watch.expect(there.request_id, told.of("there"))
        await backend.insert([there])
        await watch.close()
        assert not is_watching()
    assert told.jobs == ["there"] * 3


async def test_any_number_of_jobs_is_told_of(backend, watch, told):
    jobs = [new_job() for _ in range(3_500)]
    for job in jobs:
        watch.expect(job.request_id, told.of(job.request_id))
    await backend.insert(jobs[:3_000])
    await watch.close()
    assert sorted(told.jobs) == sorted(job.request_id for job in jobs[:3_000])


async def test_a_watch_that_was_never_used_has_no_thread(watch):
    await watch.close()
    assert not is_watching()


async def test_an_expectation_outlives_an_outage_of_the_store(backend, watch, told, wait_until, monkeypatch):
    looks = []

    async def fail(query):
        looks.append(query)
        raise BackendUnavailableError("not now")

    job = new_job()
    with monkeypatch.context() as outage:
        outage.setattr(backend, "find", fail)
        await backend.insert([job])
        watch.expect(job.request_id, told.of(job.request_id))
        await wait_until(lambda: len(looks) > 2)
    await wait_until(lambda: told.jobs)
    assert told.jobs == [job.request_id]


def test_a_loop_ends_without_a_word_while_something_is_expected(told):
    backend = MemoryBackend()
    watch = CommitWatch(backend)
    job = new_job()

    async def expect():
        watch.expect(job.request_id, told.of(job.request_id))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(expect())
        loop.close()
        gc.collect()
    asyncio.run(backend.insert([job]))
    asyncio.run(watch.close())
    assert told.jobs == [job.request_id]


async def test_a_job_that_cannot_be_told_of_keeps_no_other_from_it(backend, watch, told, caplog):
    async def fail():
        raise BackendUnavailableError("not now")

    jobs = [new_job() for _ in range(3)]
    await backend.insert(jobs)
    watch.expect(jobs[0].request_id, told.of("first"))
    watch.expect(jobs[1].request_id, fail)
    watch.expect(jobs[2].request_id, told.of("third"))
    await watch.close()
    assert told.jobs == ["first", "third"]
    assert "not now" in caplog.text
    assert not is_watching()


async def test_the_next_look_is_planned_without_going_through_all_that_is_expected(backend, watch, told, wait_until):
    class Counted(float):
        compared = 0

        def __lt__(self, other):
            Counted.compared += 1
            return float(self) < other

        __gt__ = __lt__

    jobs = [new_job() for _ in range(200)]
    for job in jobs:
        watch.expect(job.request_id, told.of(job.request_id))
    await wait_until(lambda: len(watch._expected) == 200)
    added = threading.Event()
    compared = []

    def look_on():
        for each in watch._expected:
            each.look_at = Counted(each.look_at)
        watch._add(new_job().request_id, told.of("another"))
        # Here, before the watch looks again.
        compared.append(Counted.compared)
        added.set()

    watch._thread.call_soon(look_on)
    assert await asyncio.to_thread(added.wait, 30)
    assert compared[0] < 20
