"""The layers: a stop interrupts middleware where it awaits, and no attempt ends before its handler has."""

import asyncio
import logging
import threading
from datetime import timedelta

import pytest

from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.stop import Stop
from deeper_tasks.worker.execution import middleware

LIMIT = 2
BEFORE = {Stop.CANCEL: End.CANCEL, Stop.TIMEOUT: End.RETRY, Stop.SHUTDOWN: End.RELEASE, Stop.LOST: None}


@pytest.fixture(params=["coroutine", "thread"])
def task(request, bench):
    """A task that tells in `bench.begun` that it was begun, and returns 1."""
    bench.begun = []

    async def on_loop():
        bench.begun.append(1)
        return 1

    def in_thread():
        bench.begun.append(1)
        return 1

    return bench.task({"coroutine": on_loop, "thread": in_thread}[request.param])


def hang(bench, *, before=False, after=False):
    """Have middleware hang there; returns what is set once it does."""
    hangs = asyncio.Event()

    async def around(job, proceed):
        if before:
            hangs.set()
            await asyncio.Event().wait()
        settlement = await proceed()
        if after:
            hangs.set()
            await asyncio.Event().wait()
        return settlement

    async def further_in(job, proceed):
        return await proceed()

    bench.middleware += [around, further_in]
    return hangs


async def stop_by(stop, bench, attempt):
    if stop is Stop.TIMEOUT:
        await bench.clock.advance(LIMIT + 1)
    else:
        attempt.tell_to_stop(stop, "not wanted")


@pytest.mark.parametrize("stop", BEFORE)
async def test_a_stop_reaches_middleware_before_the_handler_which_is_not_begun(bench, task, stop):
    hangs = hang(bench, before=True)
    attempt, running = bench.start(await bench.claim(task, limit=timedelta(seconds=LIMIT)))
    await asyncio.wait_for(hangs.wait(), 20)
    await stop_by(stop, bench, attempt)
    settlement = await asyncio.wait_for(running, 20)
    assert (None if settlement is None else settlement.end) is BEFORE[stop]
    assert bench.begun == []
    if stop is Stop.SHUTDOWN:
        assert settlement.ran_for is None
    if stop is Stop.TIMEOUT:
        assert settlement.error.kind == "TimeoutError"
        assert "in the middleware hang.<locals>.around, test_middleware.py:" in settlement.error.message


@pytest.mark.parametrize("stop", BEFORE)
async def test_what_the_handler_has_completed_is_kept_when_its_middleware_is_interrupted(bench, task, stop, caplog):
    hangs = hang(bench, after=True)
    attempt, running = bench.start(await bench.claim(task, limit=timedelta(seconds=LIMIT)))
    await asyncio.wait_for(hangs.wait(), 20)
    await stop_by(stop, bench, attempt)
    settlement = await asyncio.wait_for(running, 20)
    if stop is Stop.LOST:
        assert settlement is None
    else:
        assert (settlement.end, settlement.result) == (End.COMPLETE, "1")
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"around, test_middleware.py:{hang.__code__.co_firstlineno + 4} was interrupted" in warning.message
    assert warning.job_id == attempt.job.id


async def test_a_failure_whose_middleware_is_interrupted_keeps_its_error_unless_it_is_cancelled(bench):
    async def fail():
        raise ValueError("boom")

    hangs = hang(bench, after=True)
    task = bench.task(fail)
    for stop, end, kind in ((Stop.TIMEOUT, End.RETRY, "ValueError"), (Stop.CANCEL, End.CANCEL, "Cancel")):
        hangs.clear()
        attempt, running = bench.start(await bench.claim(task, limit=timedelta(seconds=LIMIT)))
        await asyncio.wait_for(hangs.wait(), 20)
        await stop_by(stop, bench, attempt)
        settlement = await asyncio.wait_for(running, 20)
        assert (settlement.end, settlement.error.kind) == (end, kind)


async def test_middleware_tidies_up_after_its_interrupted_handler_and_is_interrupted_if_it_hangs_there(
    bench, monkeypatch
):
    monkeypatch.setattr(middleware, "_PATIENCE", 0.05)
    begun, steps = asyncio.Event(), []

    async def around(job, proceed):
        try:
            return await proceed()
        finally:
            await asyncio.sleep(0)
            steps.append("tidied up")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                steps.append("interrupted")
            await asyncio.Event().wait()

    async def slow():
        begun.set()
        await asyncio.Event().wait()

    bench.middleware.append(around)
    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    await asyncio.wait_for(begun.wait(), 20)
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    assert (await asyncio.wait_for(running, 20)).end is End.CANCEL
    assert steps == ["tidied up", "interrupted"]


@pytest.mark.parametrize("way", ["a task of its own", "a timeout of its own"])
async def test_an_attempt_ends_only_after_a_handler_that_middleware_has_left(bench, way, monkeypatch):
    monkeypatch.setattr(middleware, "_PATIENCE", 0.05)
    begun, left, may_end, ended = asyncio.Event(), asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    async def around(job, proceed):
        if way == "a task of its own":
            proceeding = asyncio.create_task(proceed())
            await begun.wait()
            left.set()
            raise PermissionError(str(proceeding))
        async with asyncio.timeout(None) as alarm:
            begun_then = asyncio.create_task(begun.wait())
            begun_then.add_done_callback(lambda _: (alarm.reschedule(0), left.set()))
            return await proceed()

    def slow():
        loop.call_soon_threadsafe(begun.set)
        may_end.wait(20)
        ended.append(1)

    bench.middleware.append(around)
    _, running = bench.start(await bench.claim(bench.task(slow)))
    await asyncio.wait_for(left.wait(), 20)
    await bench.clock.settle()
    assert not running.done()
    may_end.set()
    settlement = await asyncio.wait_for(running, 20)
    assert ended == [1]
    assert settlement.end is End.RETRY


async def test_a_stop_reaches_a_handler_that_middleware_awaits_in_a_task_of_its_own(bench):
    begun, stopped = asyncio.Event(), []

    async def around(job, proceed):
        proceeding = asyncio.create_task(proceed())
        await asyncio.wait({proceeding})
        return proceeding.result()

    async def slow():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(1)
            raise

    bench.middleware.append(around)
    attempt, running = bench.start(await bench.claim(bench.task(slow)))
    await asyncio.wait_for(begun.wait(), 20)
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    assert (await asyncio.wait_for(running, 20)).end is End.CANCEL
    assert stopped == [1]
