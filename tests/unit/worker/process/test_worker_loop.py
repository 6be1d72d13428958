"""The loop of a worker process: what comes out of it by a job's code does not end the worker."""

import asyncio
import signal
from contextlib import suppress

import pytest

from deeper_tasks.worker.process.worker_loop import run_on_loop


class Row:
    def __repr__(self):
        raise AttributeError("detached")


async def fails():
    raise LookupError(Row())


def test_a_repr_that_raises_in_debug_mode_does_not_end_the_loop(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0
        parts = {loop.create_task(fails()) for _ in range(5)}
        await asyncio.wait(parts)
        return {type(part.exception()) for part in parts}

    assert run_on_loop(main()) == {LookupError}
    assert "the event loop was stopped by code that does not own it; it goes on" in caplog.text


def test_a_loop_that_cannot_turn_any_more_ends():
    loops = []

    def broken(_):
        raise OSError("no selector")

    async def main():
        loops.append(asyncio.get_running_loop())
        loops[0]._selector.select = broken
        await asyncio.Event().wait()

    with pytest.raises(OSError, match="no selector"):
        run_on_loop(main())
    assert loops[0].is_closed()


def test_a_handler_of_ctrl_c_without_a_repr_does_not_end_the_loop():
    class Handler(Row):
        def __call__(self, *args): ...

    async def main():
        signal.signal(signal.SIGINT, Handler())
        return "done"

    before = signal.getsignal(signal.SIGINT)
    try:
        assert run_on_loop(main()) == "done"
    finally:
        # Where Python still makes the repr of the handler before.
        with suppress(AttributeError):
            signal.signal(signal.SIGINT, before)
