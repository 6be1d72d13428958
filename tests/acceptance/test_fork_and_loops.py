"""A manager survives a fork, serves event loops in turn, and blocks where a loop runs already."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from workshop import tasks
from workshop.crew import STORES
from workshop.forker import CHILDREN, CROWD, EACH

from deeper_tasks import BackgroundTaskManager, State

THREADS = 16


@pytest.mark.parametrize("crew", STORES, indirect=True)
@pytest.mark.parametrize("how", ["sync", "async"])
async def test_parent_and_children_of_a_fork_all_enqueue_with_the_same_manager(crew, how):
    program = crew.start("workshop.forker", how, is_piped=True)
    output, _ = await asyncio.to_thread(program.process.communicate, timeout=30)
    assert program.process.returncode == 0
    ids = output.decode().split()
    assert len(ids) == len(set(ids)) == (2 + CHILDREN) * EACH
    async with BackgroundTaskManager(crew.url) as manager:
        for each in ids:
            assert (await manager.get_task_status(each)).status is State.PENDING
        assert (await manager.get_statistics()).queues["default"].pending == len(ids)
    crew.check_database()
    assert crew.alive() == []


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_what_a_forked_child_was_given_an_id_for_is_there_though_its_parent_closed_the_store(crew):
    program = crew.start("workshop.forker", "close", is_piped=True)
    output, _ = await asyncio.to_thread(program.process.communicate, timeout=30)
    assert program.process.returncode == 0
    ids = output.decode().split()
    assert len(set(ids)) == 2 * EACH
    async with BackgroundTaskManager(crew.url) as manager:
        for each in ids:
            assert (await manager.get_task_status(each)).status is State.PENDING
        assert (await manager.get_statistics()).queues["default"].pending == 3 * EACH
    crew.check_database()


@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_children_of_a_fork_that_ran_no_hooks_use_the_manager_also_after_their_parent_closed_the_store(crew):
    program = crew.start("workshop.forker", "silent", is_piped=True)
    output, _ = await asyncio.to_thread(program.process.communicate, timeout=30)
    assert program.process.returncode == 0
    ids = output.decode().split()
    assert len(ids) == len(set(ids)) == 10 * EACH
    async with BackgroundTaskManager(crew.url) as manager:
        assert (await manager.get_statistics()).queues["default"].pending == len(ids)
        for each in ids[::EACH]:
            assert (await manager.get_task_status(each)).status is State.PENDING
    crew.check_database()
    assert crew.alive() == []


async def test_a_child_that_c_code_forked_in_the_middle_of_a_write_is_refused_and_its_parent_goes_on(crew):
    program = crew.start("workshop.forker", "silent while writing", is_piped=True)
    output, _ = await asyncio.to_thread(program.process.communicate, timeout=30)
    assert program.process.returncode == 0
    async with BackgroundTaskManager(crew.url) as manager:
        assert (await manager.get_statistics()).queues["default"].pending == 2 * EACH
    assert len(output.split()) == 2
    crew.check_database()


async def test_a_child_that_c_code_forked_keeps_what_a_killed_process_left_in_the_write_ahead_log(crew):
    program = crew.start("workshop.forker", "silent before a crash", is_piped=True)
    output, _ = await asyncio.to_thread(program.process.communicate, timeout=30)
    assert program.process.returncode == 0
    async with BackgroundTaskManager(crew.url) as manager:
        assert (await manager.get_statistics()).queues["default"].pending == 3 * EACH
        for each in output.decode().split():
            assert (await manager.get_task_status(each)).status is State.PENDING
    crew.check_database()


async def test_a_forked_child_does_not_keep_the_locks_of_a_parent_that_was_killed_in_a_write(crew):
    program = crew.start("workshop.forker", "die")
    await asyncio.to_thread(program.process.wait, 30)
    assert program.process.returncode == -9
    assert len(crew.alive()) == 1
    async with BackgroundTaskManager(f"{crew.url}?timeout=5") as manager:
        assert (await manager.enqueue_task(tasks.nap)).is_new
        assert (await manager.get_statistics()).queues["default"].pending == 2
        assert (await manager.list_tasks()).total_entries == 2
    crew.check_database()


@pytest.mark.parametrize(
    ("how", "jobs"),
    [
        ("crowd", 2 * CROWD * EACH),
        ("loop", 3 * EACH),
        ("twice", 5 * EACH),
        ("fork", (2 + CHILDREN) * EACH),
        ("forkserver", (2 + CHILDREN) * EACH),
        ("spawn", (2 + CHILDREN) * EACH),
    ],
    ids=[
        "a thread forks while others enqueue",
        "a running loop forks",
        "a child forks again and ends",
        "multiprocessing forks",
        "multiprocessing has a fork server",
        "multiprocessing spawns",
    ],
)
@pytest.mark.parametrize("crew", STORES, indirect=True)
async def test_every_id_that_any_process_got_is_of_a_job_of_its_own_when(crew, how, jobs):
    program = crew.start("workshop.forker", how, is_piped=True)
    output, _ = await asyncio.to_thread(program.process.communicate, timeout=50)
    assert program.process.returncode == 0
    ids = output.decode().split()
    assert len(ids) == len(set(ids)) == jobs
    async with BackgroundTaskManager(crew.url) as manager:
        for each in ids:
            assert (await manager.get_task_status(each)).status is State.PENDING
        assert (await manager.get_statistics()).queues["default"].pending == jobs
    crew.check_database()
    assert crew.alive() == []


@pytest.mark.parametrize("url", ["sqlite", "memory"])
def test_a_manager_serves_several_event_loops_in_turn(crew, url):
    manager = BackgroundTaskManager(crew.url if url == "sqlite" else "memory://")
    first = asyncio.run(manager.enqueue_task(tasks.nap))

    async def look_and_enqueue():
        assert (await manager.get_task_status(first)).status is State.PENDING
        return await manager.enqueue_task(tasks.nap)

    second = asyncio.run(look_and_enqueue())
    assert manager.sync.list_tasks().total_entries == 2
    assert manager.sync.get_task_status(second).status is State.PENDING
    manager.sync.close()


@pytest.mark.parametrize("url", ["sqlite", "memory"])
async def test_the_blocking_facade_works_inside_a_running_loop_beside_the_async_one(crew, url):
    async with BackgroundTaskManager(crew.url if url == "sqlite" else "memory://") as manager:
        first = manager.sync.enqueue_task(tasks.nap)
        second = await manager.enqueue_task(tasks.nap)
        assert manager.sync.get_task_status(second).status is State.PENDING
        assert (await manager.get_task_status(first)).status is State.PENDING
        assert manager.sync.list_tasks().total_entries == 2
        manager.sync.close()


@pytest.mark.parametrize("is_opened", [True, False], ids=["opened before", "opened by the first of them"])
async def test_a_manager_serves_loops_in_several_threads_at_once(crew, is_opened):
    manager = BackgroundTaskManager(crew.url)
    if is_opened:
        await manager.open()

    def enqueue_in_a_loop_of_its_own():
        async def enqueue():
            return [await manager.enqueue_task(tasks.nap) for _ in range(EACH)]

        return asyncio.run(enqueue())

    answers = await asyncio.gather(*(asyncio.to_thread(enqueue_in_a_loop_of_its_own) for _ in range(4)))
    assert len({each for answer in answers for each in answer}) == 4 * EACH
    assert (await manager.get_statistics()).queues["default"].pending == 4 * EACH
    await manager.close()


@pytest.fixture
def _hasty_threads():
    """Have threads change often: so they meet in the middle of what they do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_hasty_threads")
async def test_many_threads_make_one_loop_and_one_writer_though_all_come_first(crew):
    manager = BackgroundTaskManager(crew.url)
    together = threading.Barrier(THREADS)

    def enqueue():
        together.wait()
        return manager.sync.enqueue_task(tasks.nap)

    with ThreadPoolExecutor(THREADS) as pool:
        ids = {future.result(timeout=30) for future in [pool.submit(enqueue) for _ in range(THREADS)]}
    assert len(ids) == THREADS
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("deeper-sync") == names.count("deeper-write-tasks.db") == 1
    await asyncio.to_thread(manager.sync.close)
    assert not any(thread.name.startswith("deeper-") for thread in threading.enumerate())
