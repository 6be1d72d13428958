"""The deadlines: attempts are stopped when their time is over, by one timer, and told of when they will not."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

from deeper_tasks.domain.stop import Stop
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.attempts.stalls import Stalls
from deeper_tasks.worker.execution.deadlines import _PATIENCE, Deadlines


class Watch:
    def __init__(self, clock):
        self.running = []
        self.ignored = []
        self.deadlines = Deadlines(running=lambda: list(self.running), clock=clock, on_ignored=self.ignored.append)
        self.task = asyncio.create_task(self.deadlines.run())

    def start(self, seconds):
        attempt = Attempt(SimpleNamespace(has_started=True), claimed=0)
        self.running.append(attempt)
        self.deadlines.watch(attempt, None if seconds is None else timedelta(seconds=seconds))
        return attempt


@pytest.fixture
async def watch(clock):
    watch = Watch(clock)
    await clock.settle()
    yield watch
    watch.task.cancel()
    await asyncio.gather(watch.task, return_exceptions=True)


async def test_each_attempt_is_stopped_at_its_own_deadline(watch, clock):
    late, early, never = watch.start(30), watch.start(10), watch.start(None)
    await clock.settle()
    await clock.advance(9.9)
    assert early.stop is None
    await clock.advance(0.2)
    assert (early.stop, late.stop) == (Stop.TIMEOUT, None)
    await clock.advance(20)
    assert late.stop is Stop.TIMEOUT
    await clock.advance(100_000)
    assert never.stop is None


async def test_an_attempt_that_is_held_has_all_its_time_from_when_it_is_watched_again(watch, clock):
    attempt = watch.start(10)
    await clock.settle()
    watch.deadlines.hold(attempt)
    await clock.advance(1000)
    assert attempt.stop is None
    watch.deadlines.watch(attempt, timedelta(seconds=10))
    await clock.settle()
    await clock.advance(9.9)
    assert attempt.stop is None
    await clock.advance(0.2)
    assert attempt.stop is Stop.TIMEOUT


async def test_a_deadline_is_put_off_by_the_time_in_which_others_have_blocked_the_loop(watch, clock):
    attempt = watch.start(10)
    attempt.job.id = "job"
    attempt.started, attempt.stalls = clock.monotonic(), Stalls()
    for at in (2, 5):
        attempt.stalls.note("turn", "another", after=attempt.started + at, before=attempt.started + at)
    await clock.settle()
    await clock.advance(12.9)
    assert attempt.stop is None
    await clock.advance(0.2)
    assert attempt.stop is Stop.TIMEOUT


async def test_nothing_that_runs_needs_no_timer(watch, clock):
    assert clock.pauses == [None]


async def test_the_timer_is_armed_for_the_earliest_only(watch, clock):
    watch.start(30)
    await clock.settle()
    watch.start(40)
    await clock.settle()
    assert clock.pauses == [None, 30]
    watch.start(20)
    await clock.settle()
    assert clock.pauses == [None, 30, 20]


async def test_one_that_ended_in_time_is_left_alone(watch, clock):
    attempt = watch.start(10)
    await clock.settle()
    watch.running.clear()
    await clock.advance(20)
    assert attempt.stop is None
    assert clock.pauses[-1] is None


async def test_code_that_does_not_stop_is_interrupted_again_and_told_of(watch, clock):
    attempt = watch.start(10)
    interrupted = []
    attempt.interrupt = lambda: interrupted.append(clock.now)
    await clock.settle()
    await clock.advance(10)
    assert (len(interrupted), watch.ignored) == (1, [])
    await clock.advance(_PATIENCE)
    assert (len(interrupted), watch.ignored) == (2, [attempt])


async def test_its_time_is_over_when_it_was_and_not_when_the_timer_got_round_to_it(watch, clock):
    attempt = watch.start(10)
    over = clock.now + 10
    await clock.settle()
    await clock.advance(25)
    assert (attempt.stop, attempt.overdue_since, watch.ignored) == (Stop.TIMEOUT, over, [])


async def test_a_cancelled_one_gets_its_patience_when_its_deadline_comes(watch, clock):
    attempt = watch.start(10)
    await clock.settle()
    await clock.advance(9.99)
    attempt.tell_to_stop(Stop.CANCEL, "not wanted")
    await clock.advance(0.02)
    assert watch.ignored == []
    assert (attempt.stop, attempt.reason) == (Stop.CANCEL, "not wanted")
    await clock.advance(_PATIENCE)
    assert watch.ignored == [attempt]
