"""A child: a real process, and the clock of a test."""

import asyncio
import signal
import sys

import pytest

from deeper_tasks.health import ProcessStatus
from deeper_tasks.supervisor.child import Child

PROCESS = """
import signal, socket, sys, threading
from deeper_tasks.supervisor.messages import Loaded, Report, encode
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set() if "stubborn" not in sys.argv else None)
pipe = socket.socket(fileno=int(sys.argv[-1]))
pipe.sendall(encode(Loaded(store="s", queues={}, tasks=0, grace=7.0)))
if "mute" not in sys.argv:
    pipe.sendall(encode(Report(is_ready=True, is_stopping=False, busy=3, loop_lag=0.0)))
stopping.wait()
pipe.sendall(encode(Report(is_ready=False, is_stopping=True, busy=0, loop_lag=0.0)))
"""


class Watched:
    """A child and the time on its supervisor's clock."""

    def __init__(self, manner):
        self.now = 1000.0
        self.changed = asyncio.Event()
        self.child = Child(
            (sys.executable, "-c", PROCESS),
            arguments=(manner,),
            silence_limit=30,
            now=lambda: self.now,
            on_change=self.changed.set,
        )

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():
                self.child.reap()
                await asyncio.sleep(0.005)

    def pass_seconds(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.child.look()


@pytest.fixture
async def watched():
    made = []

    async def watched(manner="willing"):
        made.append(Watched(manner))
        await made[-1].until(lambda: made[-1].child.loaded and (manner == "mute" or made[-1].child.report))
        return made[-1]

    yield watched
    for each in made:
        each.child._process.kill()
        await each.until(lambda each=each: each.child.code is not None)


async def test_it_knows_what_its_process_says_and_how_it_ended(watched):
    seen = await watched()
    child = seen.child
    assert (child.loaded.grace, child.report.busy, child.status) == (7.0, 3, ProcessStatus.READY)
    seen.now += 5
    assert child.worked_for == 5
    child.stop()
    assert child.status is ProcessStatus.STOPPING
    await seen.until(lambda: child.code is not None)
    assert (child.code, child.status, child.was_killed) == (0, ProcessStatus.DOWN, False)
    # Its last words came through.
    assert child.report.is_stopping


async def test_it_is_killed_when_it_gives_no_sign_of_life(watched, caplog):
    seen = await watched()
    seen.pass_seconds(29)
    assert not seen.child.was_killed
    seen.pass_seconds(1)
    await seen.until(lambda: seen.child.code is not None)
    assert seen.child.code == -signal.SIGKILL
    assert "gave no sign of life for 30 s and is killed" in caplog.text


async def test_one_that_has_not_begun_to_give_signs_is_left_alone(watched):
    seen = await watched("mute")
    assert seen.child.status is ProcessStatus.STARTING
    seen.pass_seconds(300)
    assert not seen.child.was_killed


async def test_one_that_does_not_stop_is_killed_after_its_grace_and_a_margin(watched, caplog):
    seen = await watched("stubborn")
    seen.child.stop()
    # The silence of one that stops does not count: its end has a time of its own.
    seen.pass_seconds(31)
    assert not seen.child.was_killed
    seen.pass_seconds(1)
    await seen.until(lambda: seen.child.code is not None)
    assert seen.child.code == -signal.SIGKILL
    assert "did not stop in its grace period and is killed" in caplog.text


async def test_one_that_is_to_hurry_has_no_grace_any_more(watched):
    seen = await watched("stubborn")
    seen.child.stop()
    seen.child.stop()
    seen.pass_seconds(24)
    assert not seen.child.was_killed
    seen.pass_seconds(1)
    assert seen.child.was_killed


async def test_what_cannot_be_started_leaves_nothing_open():
    with pytest.raises(OSError, match="absent"):
        Child(("/absent",), arguments=(), silence_limit=30, now=lambda: 0.0, on_change=lambda: None)
