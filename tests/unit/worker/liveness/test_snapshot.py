"""The snapshot of a loop: what it runs, cut down to the part that is the user's."""

import asyncio
import threading

import pytest

from deeper_tasks.tasks import make_task
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.liveness.snapshot import take_snapshot


@pytest.fixture
def seen_from_outside():
    """Return a call that blocks its thread, a loop's, while another takes a snapshot of it."""

    def seen_from_outside():
        loop, thread, seen = asyncio.get_running_loop(), threading.get_ident(), []
        observer = threading.Thread(target=lambda: seen.append(take_snapshot(loop, thread, ())))
        observer.start()
        observer.join()
        return seen[0]

    return seen_from_outside


async def test_the_stack_begins_where_the_loop_calls_the_user_s_code(seen_from_outside):
    async def outer():
        return await inner()

    async def inner():
        return seen_from_outside()

    snapshot = await asyncio.create_task(outer())
    first, *_ = snapshot.stack.splitlines()
    assert first.endswith("in outer")
    assert "in inner" in snapshot.stack
    assert "in seen_from_outside" in snapshot.stack
    assert not snapshot.is_waiting


async def test_the_worker_s_own_frames_are_left_out(bench, seen_from_outside):
    seen = []

    async def handler():
        seen.append(seen_from_outside())

    bench.registry.add(task := make_task(handler, name="shop.handler"))
    attempt = Attempt(await bench.claim(task), claimed=0.0)
    attempt.task = asyncio.create_task(bench.runner().run(attempt))
    await attempt.task
    first, *_ = seen[0].stack.splitlines()
    assert first.endswith("in handler")


async def test_a_very_deep_stack_keeps_its_inner_end(seen_from_outside):
    def dive(depth):
        return dive(depth - 1) if depth else seen_from_outside()

    async def deep():
        return dive(200)

    snapshot = await asyncio.create_task(deep())
    assert snapshot.stack.count("File ") <= 30
    assert "in seen_from_outside" in snapshot.stack


def test_a_loop_with_nothing_to_do_is_seen_to_wait():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        deadline = threading.Event()
        for _ in range(3000):
            snapshot = take_snapshot(loop, thread.ident, ())
            if snapshot.is_waiting:
                break
            deadline.wait(0.01)
        assert snapshot.is_waiting
        assert snapshot.job is None
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_thread_that_is_gone_has_no_stack():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    snapshot = take_snapshot(asyncio.get_running_loop(), -1, ())
    assert (snapshot.stack, snapshot.is_waiting) == ("", False)
