"""A network that hangs under workers, for longer than their lease: they keep what runs, and settle it afterwards."""

import time

import pytest
from workshop import tasks
from workshop.crew import Crew

from deeper_tasks import BackgroundTaskManager, State

SETTINGS = {"heartbeat_seconds": 0.3, "lease_seconds": 1.2, "poll_interval_seconds": 0.2}
LEASES = 3

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def proxy(start_proxy, database_url):
    return start_proxy(f"{database_url}?timeout=1")


@pytest.fixture
def crew(tmp_path, proxy):
    """The processes of a test, all behind the network that hangs."""
    crew = Crew(tmp_path, url=proxy.url)
    yield crew
    crew.end()


@pytest.fixture
async def manager(database_url):
    """A manager that is near the server."""
    async with BackgroundTaskManager(database_url) as manager:
        manager.include(tasks)
        yield manager


async def _start_jobs(crew, manager, wait_until, number):
    jobs = await manager.enqueue_many([tasks.wait_for.call(str(crew.folder / f"go {each}")) for each in range(number)])
    await wait_until(lambda: {entry.job for entry in crew.journal("start")} == set(jobs))
    return jobs


@pytest.mark.parametrize("ways", [("requests",), ("replies",), ("requests", "replies")], ids=" and ".join)
async def test_workers_that_are_cut_off_for_longer_than_their_lease_keep_their_jobs_and_settle_them(
    crew, manager, wait_until, proxy, ways
):
    workers = [crew.worker("default:1", **SETTINGS) for _ in range(2)]
    during, after = await _start_jobs(crew, manager, wait_until, 2)
    proxy.hang(*ways)
    cut_off = time.monotonic()
    await wait_until(lambda: all(worker.says("the store does not answer") for worker in workers))
    (crew.folder / "go 0").touch()
    await wait_until(lambda: [entry.job for entry in crew.journal("end")] == [during])
    await wait_until(lambda: time.monotonic() > cut_off + LEASES * SETTINGS["lease_seconds"])
    assert (await manager.get_task_status(after)).status is State.RUNNING
    proxy.resume()
    (crew.folder / "go 1").touch()
    for job in (during, after):
        await manager.result(job, timeout=60)
        assert (await manager.get_task_status(job)).attempts == 1
    await manager.result(await manager.enqueue_task(tasks.nap), timeout=60)
    assert not any(worker.says("rescued") or worker.says("taken for dead") for worker in workers)
    assert len(crew.journal("start")) == 3
    assert [worker.stop(timeout=60) for worker in workers] == [0, 0]
    crew.check_database()


async def test_a_worker_that_alone_is_cut_off_has_its_jobs_run_elsewhere_and_starts_anew(
    crew, manager, wait_until, proxy, database_url
):
    cut_off = crew.worker("default:1", **SETTINGS)
    [job] = await _start_jobs(crew, manager, wait_until, 1)
    [before] = await manager.backend.nodes()
    proxy.hang()
    # Another, near the server, whose patience is the lease: the process lives, and that is not asked.
    other = crew.worker("default:1", **SETTINGS, url=database_url)
    await wait_until(lambda: other.says("rescued from the dead worker"))
    (crew.folder / "go 0").touch()
    await manager.result(job, timeout=60)
    proxy.resume()
    await wait_until(lambda: cut_off.says(f"worker {before.node.id} was taken for dead"))
    await wait_until(lambda: _count_nodes(manager, 2))
    status = await manager.get_task_status(job)
    assert (status.status, status.attempts) == (State.COMPLETED, 2)
    assert [worker.stop(timeout=60) for worker in (cut_off, other)] == [0, 0]


async def test_a_worker_that_is_cut_off_stops_in_order(crew, manager, wait_until, proxy):
    worker = crew.worker("default:1", shutdown_grace_seconds=0, **SETTINGS)
    [job] = await _start_jobs(crew, manager, wait_until, 1)
    proxy.hang()
    await wait_until(lambda: worker.says("the store does not answer"))
    assert worker.stop(timeout=60) == 0
    assert crew.alive() == []
    proxy.resume()
    # Nobody could be told that it gave the job back: the next worker on this machine sees that it is gone.
    (crew.folder / "go 0").touch()
    crew.worker("default:1", **SETTINGS)
    await manager.result(job, timeout=60)


async def _count_nodes(manager, number):
    return len(await manager.backend.nodes()) == number
