"""The pulse: told from another thread, with how long the worker's loop owes an answer."""

import asyncio
import threading
import time

import pytest

from deeper_tasks.worker.liveness import loop_lag as pulse_module
from deeper_tasks.worker.liveness.loop_lag import LoopLag


@pytest.fixture
def pulsing(monkeypatch):
    monkeypatch.setattr(pulse_module, "_INTERVAL", 0.001)
    loops, threads = [], []

    def pulsing(tell):
        worker_loop = asyncio.get_running_loop()

        async def run():
            loops.append((asyncio.get_running_loop(), asyncio.current_task()))
            await LoopLag(worker_loop=worker_loop, tell=tell).run()

        def main():
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(run())

        thread = threading.Thread(target=main)
        thread.start()
        threads.append(thread)

    yield pulsing
    for loop, task in loops:
        loop.call_soon_threadsafe(task.cancel)
    for thread in threads:
        thread.join()


async def test_a_loop_that_answers_has_no_lag_and_one_that_is_blocked_has(pulsing, wait_until):
    lags = []
    free = threading.Event()

    def tell(lag):
        lags.append(lag)
        if lag > 0.05:
            free.set()

    pulsing(tell)
    await wait_until(lambda: len(lags) > 5)
    # Blocks this very loop until the other thread has seen it.
    assert free.wait(30)
    count = len(lags)
    await wait_until(lambda: 0.0 in lags[count:])


async def test_a_sign_that_cannot_be_given_is_logged_and_the_next_follows(pulsing, wait_until, caplog):
    given = []

    def tell(lag):
        given.append(lag)
        if len(given) < 3:
            raise OSError(28, "the disk is full")

    pulsing(tell)
    await wait_until(lambda: len(given) > 5)
    assert caplog.text.count("the loop lag could not be reported") == 2


async def test_an_answer_that_comes_while_the_lag_is_taken_is_no_error(monkeypatch):
    pulse = LoopLag(worker_loop=asyncio.get_running_loop(), tell=lambda _: None)
    assert pulse._lag() == 0.0
    clock = time.monotonic

    def answered_meanwhile():
        pulse._answer()
        return clock()

    monkeypatch.setattr(pulse_module.time, "monotonic", answered_meanwhile)
    assert pulse._lag() >= 0.0
