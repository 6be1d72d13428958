"""A call in a thread of its own: what it gives, and that it waits for no other thread."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deeper_tasks.run_in_thread import run_in_thread
from simulated_work import block_for


async def test_it_gives_what_the_function_gives():
    assert await run_in_thread(lambda: threading.current_thread().name) == "deeper-call"


async def test_it_raises_what_the_function_raises():
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 / 0)


async def test_its_thread_has_ended_when_it_returns():
    def slowly():
        # From here each step of this thread takes a while: so does its way from the result to its end.
        sys.setprofile(lambda *_: block_for(0.002))
        return threading.current_thread()

    assert not (await run_in_thread(slowly)).is_alive()


async def test_it_waits_for_none_of_the_threads_that_the_loop_shares():
    free = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, free.wait)
    assert await asyncio.wait_for(run_in_thread(lambda: 3), 30) == 3
    free.set()
    await held


async def test_one_that_is_given_up_goes_on_to_its_end():
    free, ended = threading.Event(), threading.Event()

    def block():
        free.wait()
        ended.set()

    waiting = asyncio.create_task(run_in_thread(block))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    free.set()
    assert await run_in_thread(lambda: ended.wait(30))
