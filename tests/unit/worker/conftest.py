"""What the tests of the worker share: a clock of their own, and a bench on which single parts run."""

import asyncio
import math
from datetime import timedelta

import pytest

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.job import JobOptions
from deeper_tasks.integrations.events import EventBus
from deeper_tasks.tasks import ExecutorKind, TaskRegistry, make_task
from deeper_tasks.testing import FaultyBackend
from deeper_tasks.testing.conformance.builders import new_job, new_node, new_token
from deeper_tasks.worker.execution.attempt import Attempt
from deeper_tasks.worker.execution.call import CallSettings
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.executors.coroutine import CoroutineExecutor
from deeper_tasks.worker.execution.executors.process import ProcessExecutor
from deeper_tasks.worker.execution.executors.thread import ThreadExecutor
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.settings import WorkerSettings


class FakeClock:
    """A clock that stands still until the test moves it on; it remembers the pauses it was asked for."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []
        self.chance = 0.5
        self._sleepers = []

    def monotonic(self):
        return self.now

    def random(self):
        return self.chance

    async def sleep(self, seconds, *, until):
        self.pauses.append(seconds)
        due = math.inf if seconds is None else self.now + max(0.0, seconds)
        try:
            async with asyncio.timeout(0 if due <= self.now else None) as alarm:
                sleeper = (due, alarm)
                self._sleepers.append(sleeper)
                try:
                    await until.wait()
                finally:
                    self._sleepers.remove(sleeper)
        except TimeoutError:
            return

    async def advance(self, seconds):
        """Let time pass, and all that is due meanwhile happen."""
        self.now += seconds
        for due, alarm in list(self._sleepers):
            # One that rings already may not have got round to its end.
            if due <= self.now and not alarm.expired():
                alarm.reschedule(0)
        await self.settle()

    async def settle(self):
        """Let the loop run until nothing more happens by itself."""
        for _ in range(50):
            await asyncio.sleep(0)

    @property
    def is_slept_on(self):
        return bool(self._sleepers)


class Bench:
    """The parts that run an attempt, put together over a store, without a worker around them."""

    def __init__(self, backend, clock, **settings):
        self.backend = backend
        self.clock = clock
        self.settings = WorkerSettings(queues={"default": 2}, **settings)
        self.bus = EventBus()
        self.events = []
        self.bus.subscribe(self.events.append)
        self.registry = TaskRegistry()
        self.attempts = {}
        self.ignored = []
        self.middleware = []
        self.availability = Availability(bus=self.bus, monotonic=clock.monotonic, random=clock.random)
        self.reporter = Reporter(backend=backend, clock=clock, token_of=self._token_of)
        self.deadlines = Deadlines(
            running=lambda: list(self.attempts.values()), clock=clock, on_ignored=self.ignored.append
        )
        self.executors = {
            ExecutorKind.COROUTINE: CoroutineExecutor(now=clock.monotonic),
            ExecutorKind.THREAD: ThreadExecutor(threads=4, now=clock.monotonic),
            ExecutorKind.PROCESS: ProcessExecutor(
                modules=lambda: [task.module for task in self.registry if task.module is not None],
                reporter=self.reporter,
                settings=self._call_settings,
                deadlines=self.deadlines,
                memory_limit_mb=self.settings.process_memory_limit_mb,
            ),
        }
        self.watching = asyncio.create_task(self.deadlines.run())
        self.node = new_node()
        self.quarantine = None

    async def open(self):
        await self.backend.register(self.node)

    async def close(self):
        self.watching.cancel()
        await asyncio.gather(self.watching, return_exceptions=True)
        for executor in self.executors.values():
            await executor.close()

    def task(self, function=None, /, **options):
        """Register a function as a task of the module `shop`."""
        if function is None:
            return lambda function: self.task(function, **options)
        task = make_task(function, **{"name": f"shop.{function.__name__}", **options})
        self.registry.add(task)
        return task

    async def claim(self, task, *args, slots=1, limit=None, retry_delay=None, max_retry_delay=None, **fields):
        """Insert a call and claim it."""
        name = task if isinstance(task, str) else task.name
        arguments = "[[],{}]" if isinstance(task, str) else task.signature.encode(args, {}, max_bytes=1_000_000)
        options = JobOptions(
            timeout=limit, retry_delay=retry_delay, max_retry_delay=max_retry_delay, tags=fields.pop("tags", ())
        )
        job = new_job(task=name, **{"arguments": arguments, "options": options, **fields})
        await self.backend.insert([job])
        return await self.claim_again(slots=slots)

    async def claim_again(self, *, slots=1):
        claim = await self.backend.claim("default", limit=1, slots=slots, node=self.node.id, token=new_token())
        return claim.jobs[0]

    def start(self, job):
        """Begin an attempt; returns it and the asyncio task that runs it."""
        attempt = self.attempts[job.id] = Attempt(job, claimed=self.clock.monotonic())
        attempt.task = asyncio.create_task(self._run(attempt))
        return attempt, attempt.task

    async def run(self, task, *args, **fields):
        """Run a call of a task from its claim to its settlement."""
        _, running = self.start(await self.claim(task, *args, **fields))
        return await asyncio.wait_for(running, 20)

    def runner(self):
        return Runner(
            backend=self.backend,
            registry=self.registry,
            executors=self.executors,
            call_settings=self._call_settings,
            middleware=tuple(self.middleware),
            settings=self.settings,
            clock=self.clock,
            reporter=self.reporter,
            deadlines=self.deadlines,
            bus=self.bus,
            quarantine=self.quarantine,
        )

    def of_kind(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    async def _run(self, attempt):
        try:
            return await self.runner().run(attempt)
        finally:
            del self.attempts[attempt.job.id]

    def _token_of(self, job_id):
        attempt = self.attempts.get(job_id)
        return None if attempt is None else attempt.job.token

    def _call_settings(self):
        return CallSettings(
            max_result_bytes=self.settings.max_result_bytes,
            default_retry_delay=self.settings.default_retry_delay,
            default_max_retry_delay=self.settings.default_max_retry_delay,
            random=self.clock.random(),
        )


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def memory():
    backend = MemoryBackend()
    yield backend
    await backend.close()


@pytest.fixture
def flaky(memory):
    return FaultyBackend(memory)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    """Either store."""
    backend = MemoryBackend() if request.param == "memory" else SQLiteBackend(tmp_path / "tasks.db")
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
async def bench(memory, clock):
    bench = Bench(memory, clock, max_result_bytes=1000, default_retry_delay=timedelta(seconds=15))
    await bench.open()
    yield bench
    await bench.close()


@pytest.fixture
async def make_bench(clock):
    """Return a way to make a bench over any store."""
    made = []

    async def make_bench(backend, **settings):
        bench = Bench(backend, clock, **settings)
        made.append(bench)
        await bench.open()
        return bench

    yield make_bench
    for bench in made:
        await bench.close()
