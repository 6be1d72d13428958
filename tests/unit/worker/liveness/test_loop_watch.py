"""The loop watch: a blocked loop is told of once, with what blocks it; the process ends only where that is wanted."""

import asyncio
import logging
import threading
from datetime import timedelta

import pytest

from deeper_tasks.integrations.events import EventBus, LoopRecovered, LoopStalled
from deeper_tasks.tasks import CurrentJob, enter_job, middleware_view
from deeper_tasks.testing.conformance.builders import new_job
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.clock import SystemClock
from deeper_tasks.worker.liveness import last_resort, loop_watch
from deeper_tasks.worker.liveness.last_resort import LastResort
from deeper_tasks.worker.liveness.loop_watch import LoopWatch, StallTimer
from deeper_tasks.worker.settings import WorkerSettings

PATIENCE = 30
SHORT = timedelta(milliseconds=50)


class Scene:
    """A watch over the test's own loop, and what it has told so far."""

    def __init__(self):
        self.bus = EventBus()
        self.events = []
        self.bus.subscribe(self._note)
        self.heard = {LoopStalled: threading.Event(), LoopRecovered: threading.Event()}
        self.ended = threading.Event()
        self.end_codes = []
        self.attempts = []
        self.watch = None
        self.last_resort = None
        self.hook = ""

    def start(self, *, owns_process=False, **settings):
        settings = WorkerSettings(queues={}, **{"loop_stall_warning": SHORT, **settings})
        running = lambda: self.attempts  # noqa: E731 - asked by both
        self.last_resort = LastResort(
            settings=settings,
            running=running,
            clock=SystemClock(),
            owns_process=owns_process,
            end_process=self._end_process,
        )
        self.watch = LoopWatch(
            settings=settings,
            running=running,
            bus=self.bus,
            last_resort=self.last_resort,
            hook=lambda: self.hook,
        )
        self.watch.start()

    def block_until_told(self):
        assert self.heard[LoopStalled].wait(PATIENCE)

    async def recovered(self):
        assert await asyncio.to_thread(self.heard[LoopRecovered].wait, PATIENCE)

    def _note(self, event):
        self.events.append(event)
        self.heard[type(event)].set()

    def _end_process(self, code):
        self.end_codes.append(code)
        self.ended.set()


@pytest.fixture
async def scene():
    scene = Scene()
    yield scene
    if scene.watch is not None:
        await scene.watch.stop()


@pytest.fixture
def claimed():
    job = new_job(task="shop.send", arguments="[[],{}]")
    return type(
        "Claimed", (), {"id": job.request_id, "task": "shop.send", "queue": "emails", "attempt": 2, "has_started": True}
    )()


async def test_a_block_is_told_once_with_its_place_and_again_when_it_is_over(scene):
    scene.start()
    scene.block_until_told()
    await scene.recovered()
    stalled, recovered = scene.events
    assert stalled.stalled_for >= SHORT
    assert stalled.job_id is None
    # The innermost frames are those of the wait; ours is the last of this file.
    assert "scene.block_until_told()" in stalled.stack
    assert "asyncio" not in stalled.stack
    assert recovered.after >= stalled.stalled_for
    assert recovered.job_id is None


async def test_the_job_whose_task_is_the_loop_s_current_one_is_named(scene, claimed):
    async def handler():
        enter_job(CurrentJob(claimed, None, None))
        scene.block_until_told()

    attempt = Attempt(claimed, claimed=0.0)
    scene.attempts.append(attempt)
    attempt.task = asyncio.create_task(handler())
    scene.start()
    await attempt.task
    await scene.recovered()
    for event in scene.events:
        assert (event.job_id, event.task, event.queue, event.attempt) == (claimed.id, "shop.send", "emails", 2)


async def test_a_task_and_a_callback_that_a_job_started_are_the_job_s(scene, claimed):
    async def handler():
        enter_job(CurrentJob(claimed, None, None))
        await asyncio.create_task(inner())
        asyncio.get_running_loop().call_soon(scene.block_until_told)
        await scene.recovered()

    async def inner():
        scene.block_until_told()
        await scene.recovered()
        scene.heard = {kind: threading.Event() for kind in scene.heard}

    scene.start()
    await asyncio.create_task(handler())
    assert [event.job_id for event in scene.events] == [claimed.id] * 4


async def test_what_blocks_one_after_the_other_is_told_of_each_and_its_end_too(scene, claimed):
    other = type("Claimed", (), {**vars(type(claimed)), "id": "another", "task": "shop.pack"})()
    blocked = []

    def block_as(job):
        enter_job(CurrentJob(job, None, None))
        block()

    def block():
        scene.block_until_told()
        scene.heard[LoopStalled].clear()
        blocked.append(True)

    # In line behind each other: between them the loop does not turn.
    loop = asyncio.get_running_loop()
    loop.call_soon(block_as, claimed)
    loop.call_soon(block_as, other)
    loop.call_soon(block)
    scene.start()
    await scene.recovered()
    await scene.watch.stop()
    assert len(blocked) == 3
    stalled = [event for event in scene.events if isinstance(event, LoopStalled)]
    recovered = [event for event in scene.events if isinstance(event, LoopRecovered)]
    assert [event.job_id for event in stalled] == [claimed.id, "another", None]
    assert [event.job_id for event in recovered] == [claimed.id, "another", None]
    assert [event.in_all > event.stalled_for for event in stalled] == [False, True, True]


async def test_what_blocks_it_only_together_is_told_of_as_well(scene, claimed):
    looked = threading.Semaphore(0)

    def take_part(job):
        enter_job(CurrentJob(job, None, None))
        looked.acquire(timeout=PATIENCE)

    for at in range(30):
        job = type("Claimed", (), {**vars(type(claimed)), "id": f"job {at}"})()
        asyncio.get_running_loop().call_soon(take_part, job)
    scene.start()
    look = scene.watch._look
    scene.watch._look = lambda: (look(), looked.release())[0]
    await scene.recovered()
    assert scene.events[0].in_all >= SHORT


async def test_middleware_and_what_it_started_is_no_job_s_code(scene, claimed):
    async def middleware():
        enter_job(middleware_view(CurrentJob(claimed, None, None)))
        await asyncio.create_task(inner())

    async def inner():
        scene.block_until_told()

    attempt = Attempt(claimed, claimed=0.0)
    scene.attempts.append(attempt)
    attempt.task = asyncio.create_task(middleware())
    scene.start()
    await attempt.task
    await scene.recovered()
    assert [event.job_id for event in scene.events] == [None, None]


async def test_code_that_let_no_other_thread_run_is_named_after_it_did(scene):
    async def handler():
        # Several: on a busy machine the watch may have its turn only after the second or third.
        _ = [sum(range(30_000_000)) for _ in range(5)]
        await scene.recovered()

    scene.start()
    await asyncio.create_task(handler())
    stalled, _ = scene.events
    assert "sum(range(30_000_000))" in stalled.stack


async def test_a_loop_that_turns_is_not_reported(scene):
    scene.start()
    looks = threading.Semaphore(0)
    look = scene.watch._look
    scene.watch._look = lambda: (look(), looks.release())[0]
    for _ in range(10):
        assert await asyncio.to_thread(looks.acquire, timeout=PATIENCE)
    assert scene.events == []


async def test_a_loop_at_rest_is_not_woken(scene, monkeypatch):
    asked, rests = [], threading.Semaphore(0)
    has_nothing_to_do = loop_watch.has_nothing_to_do

    def noted(thread):
        if is_at_rest := has_nothing_to_do(thread):
            rests.release()
        asked.append(is_at_rest)
        return is_at_rest

    monkeypatch.setattr(loop_watch, "has_nothing_to_do", noted)
    scene.start()
    for _ in range(5):
        assert await asyncio.to_thread(rests.acquire, timeout=PATIENCE)
    await scene.watch.stop()
    assert scene.watch._asked <= asked.count(False) + 1


async def test_a_loop_that_waits_for_its_turn_on_a_busy_machine_is_not_blocked(scene, monkeypatch):
    scene.start()
    looked = threading.Event()

    def take_snapshot(*_):
        looked.set()
        return loop_watch.Snapshot(is_waiting=True, turn=None, job=None, places=[])

    monkeypatch.setattr(loop_watch, "take_snapshot", take_snapshot)
    assert looked.wait(PATIENCE)
    await scene.watch.stop()
    assert scene.events == []


async def test_without_a_limit_the_process_is_not_ended(scene):
    scene.start()
    scene.block_until_told()
    await scene.recovered()
    assert scene.end_codes == []


async def test_a_loop_blocked_beyond_the_limit_ends_the_process_after_a_critical_line(scene, caplog, monkeypatch):
    flushed = []
    monkeypatch.setattr(logging, "shutdown", lambda: flushed.append(caplog.text))
    scene.start(loop_stall_limit=2 * SHORT)
    assert scene.ended.wait(PATIENCE)
    await scene.watch.stop()
    assert scene.end_codes[0] == 75
    [first, *_] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "this process ends and leaves its jobs to be rescued" in first.getMessage()
    assert "this process ends" in flushed[0]
    # It has said first what blocked it.
    assert isinstance(scene.events[0], LoopStalled)


async def test_a_job_that_blocks_the_loop_for_good_ends_the_process_when_it_has_run_on_for_stuck_seconds(
    scene, claimed, caplog, monkeypatch
):
    monkeypatch.setattr(logging, "shutdown", lambda: None)

    async def handler():
        enter_job(CurrentJob(claimed, None, None))
        assert scene.ended.wait(PATIENCE)

    attempt = Attempt(claimed, claimed=0.0)
    attempt.deadline = SystemClock().monotonic()
    scene.attempts.append(attempt)
    attempt.task = asyncio.create_task(handler())
    scene.start(owns_process=True, stuck_after=2 * SHORT)
    await attempt.task
    assert scene.end_codes[0] == 75
    assert f"by the job shop.send {claimed.id}, and a job there has run on for stuck_seconds" in caplog.text


async def test_a_loop_that_is_blocked_when_the_worker_should_have_stopped_ends_the_process_and_names_the_hook(
    scene, caplog, monkeypatch
):
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(last_resort, "LAST_WORDS", 0.1)
    monkeypatch.setattr(last_resort, "STOP_SECONDS", 0.05)
    scene.hook = "the stop hook shop.close_pool"
    scene.start(owns_process=True, loop_stall_warning=None)
    scene.last_resort.note_hooks()
    assert scene.ended.wait(PATIENCE)
    await scene.watch.stop()
    assert scene.end_codes[0] == 1
    assert "by the stop hook shop.close_pool, and keeps the worker from stopping" in caplog.text
    # No warning was wanted.
    assert scene.events == []


async def test_the_limit_alone_is_kept_too(scene, monkeypatch):
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    scene.start(loop_stall_warning=None, loop_stall_limit=SHORT)
    assert scene.ended.wait(PATIENCE)
    assert scene.end_codes[0] == 75


async def test_a_log_that_the_blocked_loop_holds_does_not_keep_the_process_from_its_end(scene, monkeypatch):
    monkeypatch.setattr(loop_watch, "_LAST_WORDS", 0.05)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    free = threading.Event()
    scene.bus.subscribe(lambda _: free.wait(PATIENCE))
    scene.start(loop_stall_limit=SHORT)
    assert scene.ended.wait(PATIENCE)
    free.set()


async def test_without_warning_and_limit_there_is_no_watch(scene):
    scene.start(loop_stall_warning=None)
    assert "deeper-loop-watch" not in {thread.name for thread in threading.enumerate()}


async def test_the_thread_ends_with_the_watch(scene):
    scene.start()
    thread = scene.watch._thread
    await scene.watch.stop()
    assert not thread.is_alive()


class TestStallTimer:
    @pytest.fixture
    def timer(self):
        return StallTimer(widest_gap=1.0, now=100.0, cpu=10.0)

    def test_adds_up_looks_that_follow_each_other_closely(self, timer):
        timer.look(100.5, 10.0)
        timer.look(101.5, 10.0)
        assert timer.seconds == 1.5

    def test_does_not_count_a_machine_that_was_suspended(self, timer):
        timer.look(100.5, 10.0)
        timer.look(4000.0, 10.0)
        assert timer.seconds == 0.5

    def test_counts_a_gap_in_which_this_process_computed_and_let_no_thread_run(self, timer):
        timer.look(130.0, 39.0)
        assert timer.seconds == 29.0

    def test_counts_no_more_than_the_gap_where_several_threads_computed(self, timer):
        timer.look(110.0, 50.0)
        assert timer.seconds == 10.0

    def test_begins_anew(self, timer):
        timer.look(100.5, 10.0)
        timer.reset()
        timer.look(101.0, 10.0)
        assert timer.seconds == 0.5
