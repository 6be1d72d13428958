"""Each attempt starts from the worker's base context: what a job sets in its own is not there in any other."""

import asyncio
import decimal
from contextvars import ContextVar

import pytest

from deeper_tasks import BackgroundTaskManager, current_job
from deeper_tasks.errors import JobError
from deeper_tasks.integrations.events import JobCompleted, JobStarted

tenant = ContextVar("tenant", default="none")


@pytest.fixture
async def manager(url):
    # One slot: each job follows on another.
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05, queues={"default": 1}) as manager:
        yield manager


def with_tasks(manager):
    """Two tasks that return what they find in their context, and leave something there."""

    def look_and_set(name):
        found = [tenant.get(), decimal.getcontext().prec]
        tenant.set(name)
        decimal.getcontext().prec = 5
        return found

    @manager.task(name="shop.on_the_loop")
    async def on_the_loop(name: str):
        found = look_and_set(name)
        await asyncio.sleep(0)
        return found

    @manager.task(name="shop.in_a_thread")
    def in_a_thread(name: str):
        return look_and_set(name)

    return on_the_loop, in_a_thread


@pytest.mark.parametrize("has_decimal_context", [True, False])
async def test_what_a_job_sets_in_its_context_is_not_there_in_the_next(manager, working, has_decimal_context):
    if has_decimal_context:
        # As code does that sets it at its import, for all that follows: copied contexts share it.
        decimal.setcontext(decimal.Context(prec=40))
    expected = ["none", 40 if has_decimal_context else 28]
    on_the_loop, in_a_thread = with_tasks(manager)
    calls = [task.call(f"{number}") for number in range(4) for task in (on_the_loop, in_a_thread)]
    ids = await manager.enqueue_many(calls)
    async with working(manager):
        assert [await manager.result(task_id, timeout=20) for task_id in ids] == [expected] * len(ids)
    assert tenant.get() == "none"


async def test_a_worker_hands_on_the_context_that_it_was_started_in(manager, working):
    on_the_loop, _ = with_tasks(manager)
    tenant.set("of the worker")
    ids = await manager.enqueue_many([on_the_loop.call("1"), on_the_loop.call("2")])
    async with working(manager):
        assert [(await manager.result(task_id, timeout=20))[0] for task_id in ids] == ["of the worker"] * 2


async def test_in_middleware_the_current_job_is_the_attempts_own(manager, working):
    seen = []

    @manager.middleware
    async def around(job, proceed):
        seen.append((job.id, current_job().id))
        settlement = await proceed()
        seen.append((job.id, current_job().id))
        return settlement

    tasks = with_tasks(manager)
    ids = await manager.enqueue_many([task.call("") for task in tasks for _ in range(3)])
    async with working(manager):
        for task_id in ids:
            await manager.result(task_id, timeout=20)
    assert [pair[0] for pair in seen] == [task_id for task_id in ids for _ in range(2)]
    assert all(told == own for told, own in seen)


@pytest.mark.parametrize("kind", [JobStarted, JobCompleted])
async def test_subscribers_run_in_no_jobs_context(tmp_path, working, kind):
    seen = []

    def listen(_):
        try:
            seen.append(current_job().id)
        except JobError:
            seen.append(tenant.get())

    url = f"sqlite:///{tmp_path}/tasks.db"
    async with BackgroundTaskManager(url, poll_interval_seconds=0.05, queues={"default": 1}) as manager:
        manager.subscribe(listen, kind)

        @manager.task(name="shop.set", transactional=True)
        async def set_it():
            tenant.set("of the job")

        ids = [await set_it.enqueue() for _ in range(3)]
        async with working(manager):
            for task_id in ids:
                await manager.result(task_id, timeout=20)
    assert seen == ["none"] * 3
