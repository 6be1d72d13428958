"""Hooks in the kit: a test's jobs see the state that the test made, or that the application's start hooks made."""

import pytest

from deeper_tasks import current_job
from deeper_tasks.errors import HookError


@pytest.fixture
def look(manager):
    @manager.task(name="shop.look")
    async def look():
        return current_job().state.pool

    return look


@pytest.fixture
def said(manager):
    said = []

    @manager.on_worker_start
    async def open_pool():
        said.append("open")
        return {"pool": "the application's"}

    @manager.on_worker_stop
    def close_pool(state):
        said.append(f"close {state.pool}")

    return said


async def test_without_the_hooks_jobs_see_what_the_test_put_into_the_state(kit, manager, look, said):
    kit.state.pool = "a fake"
    task_id = await look.enqueue()
    await kit.drain(raise_errors=True)
    assert await manager.result(task_id) == "a fake"
    assert said == []


async def test_the_hooks_run_around_a_block(kit, manager, look, said):
    async with kit.hooks() as state:
        assert state is kit.state
        task_id = await look.enqueue()
        await kit.drain(raise_errors=True)
        assert said == ["open"]
    assert await manager.result(task_id) == "the application's"
    assert said == ["open", "close the application's"]


def test_the_hooks_run_around_a_block_without_async(kit, manager, look, said):
    with kit.sync.hooks():
        task_id = manager.sync.enqueue_task(look)
        kit.sync.drain(raise_errors=True)
    assert manager.sync.result(task_id) == "the application's"
    assert said == ["open", "close the application's"]


async def test_a_start_hook_that_fails_is_raised_to_the_test(kit, manager, said):
    @manager.on_worker_start
    def fail():
        raise ConnectionError

    with pytest.raises(HookError, match="fail failed: ConnectionError"):
        async with kit.hooks():
            raise AssertionError
    assert said == ["open", "close the application's"]
