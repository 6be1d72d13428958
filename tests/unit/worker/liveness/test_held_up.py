"""Coroutines of one loop, some of which block it: each is late by its own time, not by that of the others."""

import asyncio
import functools
import random
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from deeper_tasks import current_job
from deeper_tasks.domain.state import State
from deeper_tasks.integrations.events import EventBus, JobCompleted, JobDiscarded, LoopStalled
from deeper_tasks.tasks import TaskRegistry, make_task
from deeper_tasks.testing.conformance.builders import new_job
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.worker import Worker
from simulated_work import block_for, work_for

ROUNDS = 4
DOUBT = 0.05
"""Seconds for what happens on a busy machine between the handler's own clock and the worker's."""


@dataclass
class Run:
    """One handler: what it does, how long it may take, and what it measured itself."""

    steps: list[tuple[str, float]]
    timeout: float
    began: float = 0.0
    ended: float = 0.0
    blocks: list[tuple[float, float]] = field(default_factory=list)

    async def __call__(self):
        self.began = time.monotonic()
        try:
            for kind, seconds in self.steps:
                if kind == "await":
                    await work_for(seconds)
                else:
                    block(kind, seconds, self.blocks)
        finally:
            self.ended = time.monotonic()

    def within(self, stretches):
        """Return how much of the stretches lies in the time of this run."""
        return sum(max(0.0, min(end, self.ended) - max(begin, self.began)) for begin, end in stretches)


def block(kind, seconds, blocks):
    begin = time.monotonic()
    if kind == "sleep":
        block_for(seconds)
    else:
        while time.monotonic() < begin + seconds:
            pass
    blocks.append((begin, time.monotonic()))


class Crew:
    """A worker, and all that its watch took note of."""

    def __init__(self, backend):
        self.backend = backend
        self.registry, self.bus, self.events = TaskRegistry(), EventBus(), []
        self.bus.subscribe(self.events.append)
        settings = WorkerSettings(
            queues={"default": 8},
            poll_interval=timedelta(milliseconds=20),
            loop_stall_warning=timedelta(milliseconds=60),
        )
        self.worker = Worker(Collaborators(backend=backend, registry=self.registry, bus=self.bus), settings)
        self.looks = []
        stalls = self.worker.parts.loop_watch.stalls
        note = stalls.note

        def noted(turn, job_id, *, after, before):
            self.looks.append((after, before))
            note(turn, job_id, after=after, before=before)

        stalls.note = noted
        self.running = None

    def add(self, name, function, **options):
        self.registry.add(make_task(function, name=name, **options))

    async def enqueue(self, *names):
        jobs = [new_job(task=name, arguments="[[],{}]", max_attempts=1) for name in names]
        await self.backend.insert(jobs)
        return [job.request_id for job in jobs]

    def start(self):
        self.running = asyncio.create_task(self.worker.run())

    async def ended(self, ids, wait_until):
        await wait_until(lambda: {*ids} <= {event.job_id for event in self.heard(JobCompleted, JobDiscarded)})
        return [(await self.backend.get(job_id)).state for job_id in ids]

    def heard(self, *kinds):
        return [event for event in self.events if isinstance(event, kinds)]

    def seen_of(self, begin, end):
        """Return the part of a block that lies between two looks at it."""
        looks = [(after, before) for after, before in self.looks if begin <= after and before <= end]
        return (looks[0][1], max(looks[0][1], looks[-1][0])) if looks else (end, end)


@pytest.fixture
async def crew(memory):
    crew = Crew(memory)
    yield crew
    if crew.running is not None:
        crew.worker.stop()
        await asyncio.wait_for(crew.running, 20)


def _some_run(chance):
    steps = [
        (chance.choice(["sleep", "spin", "await"]), chance.choice([0.01, 0.05, 0.1, 0.2]))
        for _ in range(chance.randint(1, 3))
    ]
    return Run(steps, timeout=chance.choice([0.12, 0.25, 0.35]))


async def test_a_handler_is_late_by_its_own_time_whatever_blocks_the_loop_around_it(crew, wait_until):
    chance = random.Random(10)
    crew.start()
    for number in range(ROUNDS):
        runs = {f"run.{number}.{at}": _some_run(chance) for at in range(5)}
        for name, run in runs.items():

            async def handler(run=run):
                await run()

            crew.add(name, handler, timeout_seconds=run.timeout)
        of_no_job = []
        ids = await crew.enqueue(*runs)
        asyncio.get_running_loop().call_later(0.05, block, "sleep", chance.choice([0.01, 0.2]), of_no_job)
        states = await crew.ended(ids, wait_until)
        for run, state in zip(runs.values(), states, strict=True):
            others = [*of_no_job, *(each for other in runs.values() if other is not run for each in other.blocks)]
            took, held = run.ended - run.began, run.within(others)
            known = run.within(crew.seen_of(*each) for each in others)
            told = f"{run}, took {took:.3f}, held {held:.3f}, known {known:.3f}"
            if took - held > run.timeout + DOUBT:
                assert state is State.DISCARDED, told
            elif took - known < run.timeout - DOUBT:
                assert state is State.COMPLETED, told


async def test_two_that_block_the_loop_one_after_the_other_are_both_late_and_both_told_of(crew, wait_until):
    def blocks():
        heard = threading.Event()
        crew.bus.subscribe(lambda event: event.task == current and heard.set(), LoopStalled)
        current = current_job().task
        heard.wait(20)
        block_for(0.1)

    async def first():
        blocks()

    async def second():
        blocks()

    crew.add("shop.first", first, timeout_seconds=0.1)
    crew.add("shop.second", second, timeout_seconds=0.1)
    ids = await crew.enqueue("shop.first", "shop.second")
    crew.start()
    assert await crew.ended(ids, wait_until) == [State.DISCARDED, State.DISCARDED]
    told = crew.heard(LoopStalled)
    assert [event.job_id for event in told] == ids
    assert told[1].in_all > told[1].stalled_for


@pytest.mark.parametrize("kind", ["coroutine", "wrapped"])
async def test_one_that_is_held_up_has_the_rest_of_its_time_afterwards(crew, wait_until, kind):
    is_waiting, stalled = asyncio.Event(), threading.Event()
    crew.bus.subscribe(lambda _: stalled.set(), LoopStalled)
    timed_out = []

    async def waits():
        is_waiting.set()
        await work_for(0.01)
        timed_out.append(current_job().timed_out)
        for _ in range(5):
            await work_for(0.01)

    @functools.wraps(waits)
    def wrapped():
        return waits()

    async def blocks():
        await is_waiting.wait()
        stalled.wait(20)
        block_for(1)

    crew.add("shop.waits", wrapped if kind == "wrapped" else waits, timeout_seconds=0.9)
    crew.add("shop.blocks", blocks)
    ids = await crew.enqueue("shop.waits", "shop.blocks")
    crew.start()
    assert await crew.ended(ids, wait_until) == [State.COMPLETED, State.COMPLETED]
    assert timed_out == [False]


async def test_the_error_of_one_that_is_late_says_how_much_of_its_time_others_held_it_up(crew, wait_until):
    is_waiting, stalled = asyncio.Event(), threading.Event()
    crew.bus.subscribe(lambda _: stalled.set(), LoopStalled)

    async def waits():
        is_waiting.set()
        await work_for(0.01)
        block_for(0.15)

    async def blocks():
        await is_waiting.wait()
        stalled.wait(20)
        block_for(0.1)

    crew.add("shop.waits", waits, timeout_seconds=0.1)
    crew.add("shop.blocks", blocks)
    [late, _] = ids = await crew.enqueue("shop.waits", "shop.blocks")
    crew.start()
    assert await crew.ended(ids, wait_until) == [State.DISCARDED, State.COMPLETED]
    message = (await crew.backend.get(late)).errors[-1].message
    assert re.search(r"ran [\d.]+ m?s \([\d.]+ m?s of it held up by other code on the loop\), .* longer", message)
