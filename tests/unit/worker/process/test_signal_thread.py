"""The signal ear: signals are heard while the loop is blocked, and reach the loop as before."""

import asyncio
import os
import signal
import threading

import pytest

from deeper_tasks.worker.process.signal_thread import SignalThread
from interruptions import interrupt

PATIENCE = 30


async def test_a_signal_is_heard_while_the_loop_is_blocked_and_by_the_loop_afterwards():
    loop, in_the_loop, aside = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    loop.add_signal_handler(signal.SIGUSR1, in_the_loop.set)
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    try:
        with SignalThread([signal.SIGUSR1], on_signal=lambda _: aside.set()):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert aside.wait(PATIENCE)
            await asyncio.wait_for(in_the_loop.wait(), PATIENCE)
        assert signal.set_wakeup_fd(before) == before
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def test_a_signal_that_is_not_meant_reaches_the_loop_alone():
    loop, in_the_loop, heard = asyncio.get_running_loop(), asyncio.Event(), []
    loop.add_signal_handler(signal.SIGUSR1, in_the_loop.set)
    try:
        with SignalThread([signal.SIGUSR2], on_signal=heard.append):
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(in_the_loop.wait(), PATIENCE)
        assert heard == []
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def test_signals_that_were_taken_over_meanwhile_stay_so():
    loop = asyncio.get_running_loop()
    with SignalThread([signal.SIGUSR1], on_signal=lambda _: None):
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        taken = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(taken)
    assert signal.set_wakeup_fd(taken) == taken
    loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
async def test_an_exception_in_its_thread_loses_no_signal(kind):
    loop, in_the_loop, aside = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    loop.add_signal_handler(signal.SIGUSR1, in_the_loop.set)
    try:
        with SignalThread([signal.SIGUSR1], on_signal=lambda _: aside.set()):
            interrupt("deeper-signal-thread", kind)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(in_the_loop.wait(), PATIENCE)
            assert aside.wait(PATIENCE)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
