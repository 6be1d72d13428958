"""Lasting threads: no exception ends what a process needs."""

import threading

import pytest

from deeper_tasks import lasting
from deeper_tasks.lasting import lasting as make_lasting
from deeper_tasks.sync import LoopThread
from interruptions import interrupt

PATIENCE = 10


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_was_raised_is_told_and_it_begins_anew_until_it_returns(kind, caplog):
    turns = []

    def serve():
        turns.append(1)
        if len(turns) < 3:
            raise kind("from outside")

    make_lasting(serve, name="deeper-test")()
    assert len(turns) == 3
    assert caplog.text.count(f"thread 'deeper-test' restarts after {kind.__name__}") == 2


def test_an_error_while_an_error_is_told_does_not_end_it(monkeypatch):
    turns = []

    def serve():
        turns.append(1)
        if len(turns) == 1:
            raise MemoryError

    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lasting.native, "sleep", fail)
    make_lasting(serve, name="deeper-test")()
    assert len(turns) == 2


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
def test_blocking_calls_are_carried_out_after_an_exception_in_their_thread(kind):
    async def answer():
        return threading.current_thread().name

    loop = LoopThread("deeper-test-loop")
    try:
        loop.run(answer())
        interrupt("deeper-test-loop", kind)
        assert loop.submit(answer()).result(PATIENCE) == "deeper-test-loop"
    finally:
        loop.stop()
