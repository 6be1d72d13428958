"""A post: when the next process is started, and when none is."""

import asyncio
import signal

import pytest

from deeper_tasks.health import ProcessStatus
from deeper_tasks.supervisor.messages import Loaded, Report
from deeper_tasks.supervisor.worker_slot import WorkerSlot

LOADED = Loaded(store="", queues={}, tasks=0, grace=0.0)


class Hurried:
    """A clock on which every pause is over at once; one without end waits for its event."""

    def __init__(self):
        self.pauses = []

    def monotonic(self):
        return 0.0

    def random(self):
        return 0.0

    async def sleep(self, seconds, *, until):
        self.pauses.append(seconds)
        if seconds is None:
            await until.wait()


class FakeChild:
    """A process that does what the test says."""

    def __init__(self, pid, on_change):
        self.pid = pid
        self.code = None
        self.loaded = None
        self.is_refused = False
        self.report = None
        self.is_asked_to_stop = False
        self.was_killed = False
        self.worked_for = 0.0
        self.stops = 0
        self._on_change = on_change

    @property
    def status(self):
        return ProcessStatus.READY if self.report else ProcessStatus.STARTING

    def stop(self):
        self.is_asked_to_stop = True
        self.stops += 1

    def become_ready(self):
        self.loaded = LOADED
        self.report = Report(is_ready=True, is_stopping=False, busy=0, loop_lag=0.0)
        self._on_change()

    def end(self, code):
        self.code = code
        self._on_change()


class Stage:
    """A post and the processes that it has started."""

    def __init__(self, **settings):
        self.clock = Hurried()
        self.children = []
        self.failing = 0
        self.post = WorkerSlot(1, start=self.start, clock=self.clock, **settings)
        self.running = asyncio.create_task(self.post.run())

    def start(self, index, on_change):
        if self.failing:
            self.failing -= 1
            raise OSError(11, "no more processes")
        self.children.append(FakeChild(1000 + len(self.children), on_change))
        return self.children[-1]

    async def settle(self):
        for _ in range(30):
            await asyncio.sleep(0)

    async def end(self, code):
        self.children[-1].end(code)
        await self.settle()


@pytest.fixture
async def stage_with():
    made = []

    async def stage_with(**settings):
        made.append(Stage(**settings))
        await made[-1].settle()
        return made[-1]

    yield stage_with
    for stage in made:
        stage.running.cancel()
        await asyncio.gather(stage.running, return_exceptions=True)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (2, "ended with exit code 2"),
        (
            75,
            "ended because it could not continue: jobs kept its slots or its loop, or a part of it kept failing",
        ),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-40, "was killed by signal 40"),
    ],
)
async def test_whatever_ends_a_process_another_follows_and_the_log_says_why(stage_with, caplog, code, words):
    stage = await stage_with()
    await stage.end(code)
    assert len(stage.children) == 2
    assert f"worker process 1 (pid 1000) {words}; another starts at once" in caplog.text


async def test_processes_that_end_again_and_again_are_started_later_and_later(stage_with, caplog):
    stage = await stage_with()
    for _ in range(4):
        await stage.end(1)
    assert stage.clock.pauses == [0, 0.5, 1, 2]
    assert "another starts in 2 s" in caplog.text
    stage.children[-1].worked_for = 60.0
    await stage.end(1)
    assert stage.clock.pauses[-1] == 0
    assert stage.post.health.restarts == 5


async def test_an_application_that_cannot_be_used_at_the_first_start_ends_it(stage_with):
    stage = await stage_with(gives_up=True)
    await stage.end(2)
    assert await stage.running == 2
    assert len(stage.children) == 1


async def test_an_application_that_its_store_cannot_serve_ends_it_with_the_code_of_the_process(stage_with):
    stage = await stage_with(gives_up=True)
    stage.children[-1].is_refused = True
    await stage.end(1)
    assert await stage.running == 1
    assert len(stage.children) == 1


async def test_one_that_cannot_be_used_later_is_tried_again_and_again(stage_with):
    stage = await stage_with(gives_up=True)
    stage.children[-1].become_ready()
    await stage.end(1)
    for _ in range(3):
        await stage.end(2)
    assert len(stage.children) == 5


async def test_one_that_waits_for_a_change_is_started_after_it(stage_with, caplog):
    stage = await stage_with(waits_for_change=True)
    await stage.end(2)
    assert len(stage.children) == 1
    assert "worker process 1 waits for a change" in caplog.text
    stage.post.renew()
    await stage.settle()
    assert len(stage.children) == 2


async def test_a_process_that_cannot_be_started_is_tried_again(stage_with, caplog):
    stage = await stage_with()
    stage.failing = 3
    await stage.end(1)
    assert len(stage.children) == 2
    assert caplog.text.count("worker process 1 could not be started, trying again") == 3
    assert stage.clock.pauses == [0, 0.5, 1, 2]


async def test_closing_stops_the_process_and_none_follows(stage_with):
    stage = await stage_with()
    stage.post.close()
    await stage.settle()
    assert not stage.running.done()
    stage.post.close()
    assert stage.children[-1].stops == 2
    await stage.end(0)
    assert await stage.running == 0
    assert len(stage.children) == 1


async def test_a_process_that_had_to_be_killed_at_the_stop_is_told_by_the_code(stage_with):
    stage = await stage_with()
    stage.post.close()
    stage.children[-1].was_killed = True
    await stage.end(-9)
    assert await stage.running == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "ended with exit code 9"),
        (75, "ended because it could not continue"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
    ],
)
async def test_a_process_that_dies_while_it_stops_is_told_by_a_line_and_the_code(stage_with, caplog, code, words):
    stage = await stage_with()
    stage.children[-1].become_ready()
    stage.post.close()
    await stage.end(code)
    assert await stage.running == 1
    assert f"worker process 1 (pid 1000) {words}" in caplog.text
    assert "while it was stopping; other workers rescue the jobs that it still ran" in caplog.text


@pytest.mark.parametrize("code", [-signal.SIGTERM, -signal.SIGINT, 130])
async def test_a_process_that_a_signal_ended_before_it_had_started_has_stopped_in_order(stage_with, caplog, code):
    stage = await stage_with()
    stage.post.close()
    await stage.end(code)
    assert await stage.running == 0
    assert caplog.text == ""


async def test_a_process_that_dies_while_it_is_replaced_is_told_by_a_line(stage_with, caplog):
    stage = await stage_with()
    stage.children[-1].become_ready()
    stage.post.renew()
    await stage.end(9)
    assert len(stage.children) == 2
    assert "ended with exit code 9 while it was stopping" in caplog.text
    assert stage.clock.pauses == []


async def test_closing_while_none_runs_ends_it_at_once(stage_with):
    stage = await stage_with(waits_for_change=True)
    await stage.end(2)
    assert stage.post.health.status is ProcessStatus.DOWN or stage.post.health.pid is None
    stage.post.close()
    assert await asyncio.wait_for(stage.running, 10) == 0


async def test_a_replacement_is_there_when_the_next_process_is_ready(stage_with, caplog):
    stage = await stage_with()
    stage.children[-1].become_ready()
    replacing = asyncio.create_task(stage.post.replace())
    await stage.settle()
    assert stage.children[0].stops == 1
    await stage.end(0)
    assert len(stage.children) == 2
    assert not replacing.done()
    stage.children[-1].become_ready()
    await asyncio.wait_for(replacing, 10)
    # A stop that was ordered is no failure.
    assert stage.clock.pauses == []
    assert "another starts" not in caplog.text


async def test_renewing_twice_does_not_hurry_the_process(stage_with):
    stage = await stage_with()
    stage.post.renew()
    stage.post.renew()
    assert stage.children[0].stops == 1


async def test_what_the_application_is_like_is_known_when_a_process_has_loaded_it(stage_with):
    stage = await stage_with()
    loading = asyncio.create_task(stage.post.load())
    await stage.settle()
    assert not loading.done()
    stage.children[-1].become_ready()
    assert await asyncio.wait_for(loading, 10) == LOADED
