"""The last resort: a blocked loop ends a process that is the worker's own, when nothing else can."""

from datetime import timedelta

import pytest

from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.liveness.last_resort import LastResort
from deeper_tasks.worker.settings import WorkerSettings


class Claimed:
    """What is asked of a job here."""

    has_started, is_last_attempt, attempt = True, False, 1


class Scene:
    def __init__(self, clock, *, owns_process=True, **settings):
        self.clock = clock
        self.running = []
        self.last_resort = LastResort(
            settings=WorkerSettings(queues={}, shutdown_grace=timedelta(seconds=30), **settings),
            running=lambda: self.running,
            clock=clock,
            owns_process=owns_process,
        )

    def start(self, *, timeout):
        attempt = Attempt(Claimed(), claimed=0)
        attempt.deadline = None if timeout is None else self.clock.now + timeout
        self.running.append(attempt)
        return attempt

    def code_after(self, seconds, *, blocked):
        self.clock.now += seconds
        verdict = self.last_resort.verdict(blocked)
        return None if verdict is None else verdict[0]


@pytest.fixture
def open_scene(clock):
    return lambda **settings: Scene(clock, **settings)


def test_a_job_that_blocks_the_loop_ends_the_process_stuck_seconds_after_its_timeout(open_scene):
    scene = open_scene(stuck_after=timedelta(seconds=3))
    scene.start(timeout=1)
    assert scene.code_after(3.9, blocked=3.9) is None
    assert scene.code_after(0.2, blocked=4.1) == 75


def test_the_loop_itself_must_have_been_blocked_for_as_long(open_scene):
    scene = open_scene(stuck_after=timedelta(seconds=3))
    attempt = scene.start(timeout=1)
    attempt.overdue_since, attempt.deadline = attempt.deadline, attempt.deadline + 10
    assert scene.code_after(60, blocked=2.9) is None
    assert scene.code_after(0, blocked=3) == 75


def test_a_job_without_a_timeout_may_block_the_loop(open_scene):
    scene = open_scene(stuck_after=timedelta(seconds=3))
    scene.start(timeout=None)
    assert scene.code_after(10_000, blocked=10_000) is None


def test_a_stop_gives_the_loop_the_grace_period_and_five_seconds(open_scene):
    scene = open_scene()
    assert scene.code_after(1000, blocked=1000) is None
    scene.last_resort.note_stop(1)
    assert scene.code_after(34.9, blocked=1034.9) is None
    assert scene.code_after(0.1, blocked=4.9) is None
    assert scene.code_after(0, blocked=5) == 1


def test_a_second_stop_ends_the_grace_period(open_scene):
    scene = open_scene()
    scene.last_resort.note_stop(1)
    # The same, told by the loop.
    scene.last_resort.note_stop(1)
    assert scene.code_after(10, blocked=10) is None
    scene.last_resort.note_stop(2)
    assert scene.code_after(0, blocked=10) == 1


def test_stop_hooks_get_ten_seconds(open_scene):
    scene = open_scene()
    scene.last_resort.note_stop(1)
    scene.clock.now += 1000
    scene.last_resort.note_hooks()
    assert scene.code_after(9.9, blocked=9.9) is None
    assert scene.code_after(0.2, blocked=10.1) == 1


def test_in_a_process_of_the_application_only_the_limit_for_stalls_holds(open_scene):
    scene = open_scene(owns_process=False, stuck_after=timedelta(seconds=1))
    scene.start(timeout=1)
    scene.last_resort.note_stop(1)
    assert not scene.last_resort.is_needed
    assert scene.code_after(1000, blocked=1000) is None
    scene = open_scene(owns_process=False, loop_stall_limit=timedelta(seconds=60))
    assert scene.last_resort.is_needed
    assert scene.code_after(60, blocked=60) == 75
