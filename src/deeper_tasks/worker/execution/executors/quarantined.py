"""The quarantined: a child process that starts as a worker does, runs one attempt, and ends."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.integrations.events import Event, EventBus, JobStarted
from deeper_tasks.integrations.tracebacks import words_of
from deeper_tasks.tasks import ExecutorKind, WorkerState, enter_job
from deeper_tasks.worker.clock import Clock, SystemClock
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.attempt import Attempt
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.executors.coroutine import CoroutineExecutor
from deeper_tasks.worker.execution.executors.frames import (
    Busy,
    Done,
    Frame,
    Logged,
    Prepare,
    Prepared,
    ProgressMade,
    Run,
    Told,
    encode,
    receive,
)
from deeper_tasks.worker.execution.executors.log_sender import take_part
from deeper_tasks.worker.execution.executors.thread import ThreadExecutor
from deeper_tasks.worker.execution.hooks import HookRun
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.execution.unfinished_code import is_awaitable
from deeper_tasks.worker.outfit import Outfit
from deeper_tasks.worker.process.forks import hang_up_in_copies, is_copy_of, leave_if_copy, watch_forks
from deeper_tasks.worker.process.worker_loop import run_on_loop

_OOM_SCORE = Path("/proc/self/oom_score_adj")


class _Line:
    """The connection to the worker; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, frame: Frame) -> None:
        if is_copy_of(self._pid):
            # A copy that the job has forked: it would talk into what this process says.
            return
        data = encode(frame)
        # A worker that is gone kills this process, or has it killed.
        with self._lock, suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(data)

    def receive(self) -> Frame | None:
        return receive(self._connection)[0]

    def hear_stops(self, attempt: Attempt) -> None:
        """Tell the attempt of the stops that the worker tells of, until the connection is closed."""
        while isinstance(told := self.receive(), Told):
            attempt.announce(told.stop, told.reason)


def serve(connection: socket.socket, prepare: Prepare) -> None:
    """Get ready for the one job, run it, and return when the stop hooks are through."""
    line = _Line(connection)
    watch_forks()
    hang_up_in_copies(connection)
    # Where memory runs out, the kernel kills this process and what it starts, and not the worker beside it.
    with suppress(OSError):
        _OOM_SCORE.write_text("1000")
    try:
        outfit = _equip(prepare, line)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises is told to the worker
        line.send(Prepared(error=_words(error)))
    else:
        take_part()
        with JobRecords(outfit.redactor):
            run_on_loop(_work(line, outfit))


def _equip(prepare: Prepare, line: _Line) -> Outfit:
    module, _, attribute = prepare.home.place.partition(":")
    line.send(Busy(doing=f"the import of {module}"))
    manager = attrgetter(attribute)(importlib.import_module(module))
    outfit: Outfit = manager._outfit(prepare.home)  # noqa: SLF001 - only a manager has one
    if outfit.registry.resolve_for_run(prepare.task) is None and prepare.module is not None:
        # Imported by the program that runs the worker, it may be, and not by the manager's module.
        importlib.import_module(prepare.module)
    if outfit.registry.resolve_for_run(prepare.task) is None:
        raise LookupError(f"{prepare.home.place} does not know the task {prepare.task!r} there")
    return outfit


async def _work(line: _Line, outfit: Outfit) -> None:
    clock, base = SystemClock(), BaseContext()
    hooks = HookRun(outfit.hooks, clock=clock)
    try:
        try:
            await hooks.start(
                stopping=asyncio.Event(),
                context=base.context,
                tell=lambda doing: line.send(Busy(doing=doing)),
            )
        except Exception as error:  # noqa: BLE001 - told to the worker
            line.send(Prepared(error=_words(error)))
            return
        base.freeze()
        line.send(Prepared())
        run = await asyncio.to_thread(line.receive)
        if isinstance(run, Run):
            job = msgspec.structs.replace(run.job, has_started=True, is_quarantined=False)
            attempt = Attempt(job, claimed=clock.monotonic())
            threading.Thread(target=line.hear_stops, args=(attempt,), name="deeper-stops", daemon=True).start()
            runner = _runner(run, outfit, line=line, clock=clock, state=hooks.state)
            attempt.task = asyncio.Task(runner.run(attempt), context=base.fresh())
            end = await attempt.task
            # Only the worker knows that an attempt is lost, and it runs transactional tasks itself.
            assert isinstance(end, Settlement)
            line.send(Done(settlement=end))
    finally:
        await hooks.stop()
        await outfit.close()


def _runner(run: Run, outfit: Outfit, *, line: _Line, clock: Clock, state: WorkerState) -> Runner:
    return Runner(
        manager=outfit.identity,
        backend=outfit.backend,
        registry=outfit.registry,
        executors={
            ExecutorKind.COROUTINE: CoroutineExecutor(),
            ExecutorKind.THREAD: ThreadExecutor(threads=1),
            ExecutorKind.PROCESS: _MainThread(),
        },
        call_settings=lambda: run.settings,
        middleware=outfit.middleware,
        settings=outfit.settings,
        clock=clock,
        reporter=_News(outfit.backend, clock=clock, line=line),
        # The worker keeps the time, and kills this process.
        deadlines=Deadlines(running=lambda: (), clock=clock, on_ignored=lambda _: None),
        bus=_QuietBus(outfit.bus),
        state=state,
    )


class _News(Reporter):
    """Sends progress and log lines to the worker, at once."""

    def __init__(self, backend: Backend, *, clock: Clock, line: _Line) -> None:
        super().__init__(backend=backend, clock=clock, token_of=lambda _: None)
        self._line = line

    def progress(self, job_id: JobId, progress: Progress) -> None:  # noqa: ARG002 - one job at a time
        self._line.send(ProgressMade(progress=progress))

    def log(self, job_id: JobId, line: str) -> None:  # noqa: ARG002 - one job at a time
        self._line.send(Logged(line=line))


class _QuietBus(EventBus):
    """The bus of the application here, without the start of the attempt: the worker tells of it."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self._bus = bus

    def wants(self, kind: type[Event]) -> bool:
        return kind is not JobStarted and self._bus.wants(kind)

    def emit(self, event: Event) -> None:
        self._bus.emit(event)


class _MainThread:
    """Runs a task with `executor="process"` where it runs in its own processes: in the main thread."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        args, kwargs = call.arguments()
        assert attempt.context is not None
        enter_job(attempt.context)
        started = time.monotonic()
        try:
            with _loop_at_rest():
                value: Any = call.task.function(*args, **kwargs)
            if call.task.leads_to_coroutine and is_awaitable(value):
                value = await value
            leave_if_copy(self._pid)
        except BaseException as error:  # noqa: BLE001 - what a handler raises ends its attempt only
            leave_if_copy(self._pid, error)
            return verdict.raised(call, error, timedelta(seconds=time.monotonic() - started), attempt)
        return verdict.returned(call, value, timedelta(seconds=time.monotonic() - started), attempt)

    async def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _loop_at_rest() -> Iterator[None]:
    """Inside the `with`, have no running loop in this thread: in a process for jobs a `def` may run one of its own."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asyncio.tasks._leave_task(loop, task)  # noqa: SLF001 - as a loop does it between two steps of tasks
    asyncio._set_running_loop(None)  # noqa: SLF001 - the same
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001 - the same
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001 - the same


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {words_of(error)}"
