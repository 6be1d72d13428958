"""The stuck slots: a worker goes on beside jobs that ignore their timeouts, until too many do or one does too long."""

import asyncio
import threading
from datetime import timedelta

import pytest

from deeper_tasks.integrations.events import EventBus, SlotFreed, TaskIgnoresTimeout
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution.deadlines import _PATIENCE, Deadlines
from deeper_tasks.worker.execution.stuck_slots import StuckSlots
from deeper_tasks.worker.liveness.snapshot import place_in_handler
from deeper_tasks.worker.settings import WorkerSettings

PATIENCE = 30
LIMIT = timedelta(seconds=1)


class Claimed:
    """What is asked of a job here."""

    has_started = True

    def __init__(self, queue):
        self.id, self.task, self.queue, self.attempt = f"job {id(self)}", "shop.send", queue, 1


class Scene:
    def __init__(self, clock, **settings):
        self.clock = clock
        self.running, self.events, self.reasons = [], [], []
        bus = EventBus()
        bus.subscribe(self.events.append)
        settings = WorkerSettings(**settings)
        running = lambda: list(self.running)  # noqa: E731 - asked by both
        self.slots = StuckSlots(settings=settings, running=running, clock=clock, bus=bus, on_stuck=self.reasons.append)
        self.deadlines = Deadlines(
            running=running, clock=clock, on_ignored=self.slots.note_ignored, stuck_after=settings.stuck_after
        )

    def start(self, queue="default", *, thread=1):
        attempt = Attempt(Claimed(queue), claimed=0)
        attempt.thread = thread
        self.running.append(attempt)
        self.deadlines.watch(attempt, LIMIT)
        return attempt

    def end(self, attempt):
        self.running.remove(attempt)
        attempt.thread = None
        if attempt.ignored:
            self.slots.note_end(attempt)

    def pass_time(self, seconds):
        # Not beyond what the timer would wait for.
        end = self.clock.now + seconds
        while self.clock.now < end:
            pause = self.deadlines.turn()
            self.clock.now = end if pause is None else min(end, self.clock.now + max(pause, 0.001))
        self.deadlines.turn()

    def heard(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def open_scene(clock):
    return lambda **settings: Scene(clock, **settings)


@pytest.mark.parametrize(
    ("queues", "limit", "stuck", "is_stuck"),
    [
        ({"default": 1}, None, ["default"], True),
        ({"default": 2}, None, ["default"], True),
        ({"default": 3}, None, ["default"], False),
        ({"default": 3}, None, ["default"] * 2, True),
        ({"default": 10}, None, ["default"] * 4, False),
        ({"default": 10}, None, ["default"] * 5, True),
        ({"default": 10, "mails": 1}, None, ["mails"], True),
        ({"default": 10, "mails": 2}, None, ["mails"], False),
        ({"default": 10, "mails": 2}, None, ["mails", "mails"], True),
        ({"default": 10, "mails": 2}, None, ["mails", "default"], False),
        ({"default": 10}, 2, ["default"], False),
        ({"default": 10}, 2, ["default"] * 2, True),
        ({"default": 10, "mails": 1}, 2, ["mails"], False),
        ({"default": 10}, 8, ["default"] * 7, False),
        ({"default": 2}, 100, ["default"], False),
        ({"default": 2}, 100, ["default"] * 2, True),
    ],
)
def test_a_worker_is_stuck_when_half_of_its_slots_are_lost_or_all_of_a_queue_or_as_many_as_the_setting_says(
    open_scene, queues, limit, stuck, is_stuck
):
    scene = open_scene(queues=queues, stuck_slots_limit=limit)
    for queue in stuck:
        scene.start(queue)
    scene.pass_time(1 + _PATIENCE / 2)
    assert scene.reasons == []
    scene.pass_time(_PATIENCE)
    assert bool(scene.reasons) is is_stuck
    assert [event.lost for event in scene.heard(TaskIgnoresTimeout)][-1:] == [len(stuck)]


def test_it_is_stuck_when_one_job_has_run_on_for_too_long_wherever_it_runs(open_scene):
    for thread in (None, 1):
        scene = open_scene(queues={"default": 100})
        attempt = scene.start(thread=thread)
        scene.pass_time(3599)
        assert scene.reasons == []
        scene.pass_time(3)
        assert scene.reasons[0] == f"the job {attempt.job.id} has run on for 1 h 0 min after its timeout"


def test_the_time_may_be_shorter_than_the_patience(open_scene):
    scene = open_scene(queues={"default": 100}, stuck_after=timedelta(seconds=0.5))
    scene.start()
    scene.pass_time(1.4)
    assert scene.reasons == []
    scene.pass_time(0.2)
    assert len(scene.reasons) == 1


def test_a_slot_that_is_free_again_counts_no_more(open_scene):
    scene = open_scene(queues={"default": 4})
    for _ in range(5):
        attempt = scene.start()
        scene.pass_time(1 + _PATIENCE + 1)
        assert scene.slots.lost == 1
        scene.end(attempt)
        assert scene.slots.lost == 0
    scene.pass_time(10_000)
    assert scene.reasons == []
    assert [(event.lost, event.slots) for event in scene.heard(SlotFreed)] == [(0, 4)] * 5
    assert scene.heard(SlotFreed)[0].after == timedelta(seconds=_PATIENCE + 1)


def test_a_thread_that_runs_on_when_its_worker_goes_away_frees_no_slot(open_scene):
    scene = open_scene(queues={"default": 4})
    attempt = scene.start()
    scene.pass_time(1 + _PATIENCE + 1)
    scene.running.remove(attempt)
    scene.slots.note_end(attempt)
    assert scene.heard(SlotFreed) == []


def test_each_that_ignores_its_timeout_is_told_of_once(open_scene):
    scene = open_scene(queues={"default": 100})
    attempts = [scene.start() for _ in range(3)]
    scene.pass_time(100)
    assert sorted(event.job_id for event in scene.heard(TaskIgnoresTimeout)) == sorted(
        attempt.job.id for attempt in attempts
    )


def test_a_coroutine_that_is_only_slow_to_stop_keeps_its_slot(open_scene):
    scene = open_scene(queues={"default": 1})
    attempt = scene.start(thread=None)
    scene.pass_time(1 + 2 * _PATIENCE)
    assert attempt.ignored
    assert scene.reasons == []
    scene.pass_time(_PATIENCE)
    assert scene.reasons[0] == "1 of its 1 slots are lost"


# Where it is.


def _inner(entered, may_go):
    entered.set()
    may_go.wait(PATIENCE)


async def test_the_place_of_a_thread_is_the_line_of_its_handler(bench):
    entered, may_go = threading.Event(), threading.Event()

    def deaf():
        _inner(entered, may_go)

    attempt, running = bench.start(await bench.claim(bench.task(deaf)))
    await asyncio.to_thread(entered.wait, PATIENCE)
    try:
        assert place_in_handler(attempt) == f"test_stuck_slots.py:{deaf.__code__.co_firstlineno + 1}"
    finally:
        may_go.set()
        await running


async def test_the_place_of_a_coroutine_is_the_line_of_its_handler(clock):
    may_go = asyncio.Event()

    async def waits():
        await may_go.wait()

    async def deaf():
        await waits()

    attempt = Attempt(Claimed("default"), claimed=0)
    assert place_in_handler(attempt) == ""
    attempt.task = asyncio.create_task(deaf())
    await clock.settle()
    assert place_in_handler(attempt) == f"test_stuck_slots.py:{deaf.__code__.co_firstlineno + 1}"
    may_go.set()
    await attempt.task
    assert place_in_handler(attempt) == ""
