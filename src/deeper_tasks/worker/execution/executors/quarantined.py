"""The quarantined child: a process that starts like a worker, runs one attempt, and ends."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.integrations.events import Event, EventBus, JobStarted
from deeper_tasks.integrations.tracebacks import words_of
from deeper_tasks.tasks import WorkerState, enter_job
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.collaborators import Collaborators
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.call import Call
from deeper_tasks.worker.execution.executors.assembly import assemble_executors
from deeper_tasks.worker.execution.executors.frames import (
    Busy,
    Done,
    Frame,
    Logged,
    Prepare,
    Prepared,
    ProgressMade,
    Run,
    StopNotice,
    encode,
    receive,
)
from deeper_tasks.worker.execution.executors.log_sender import take_part
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.execution.parts import ExecutionParts, assemble_execution
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.execution.runner import Runner
from deeper_tasks.worker.execution.unfinished_code import is_awaitable
from deeper_tasks.worker.hooks.hook_run import HookRun
from deeper_tasks.worker.process.forks import hang_up_in_copies, is_copy_of, leave_if_copy, watch_forks
from deeper_tasks.worker.process.worker_loop import run_on_loop
from deeper_tasks.worker.settings import WorkerSettings

_OOM_SCORE = Path("/proc/self/oom_score_adj")


class _Line:
    """The connection to the worker; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, frame: Frame) -> None:
        if is_copy_of(self._pid):
            # A copy that the job has forked must not write into the messages of this process.
            return
        data = encode(frame)
        # If the worker is gone, this process is killed soon.
        with self._lock, suppress(BrokenPipeError, ConnectionResetError):
            self._connection.sendall(data)

    def receive(self) -> Frame | None:
        return receive(self._connection)[0]

    def hear_stops(self, attempt: Attempt) -> None:
        """Announce the stops that the worker sends to the attempt, until the connection is closed."""
        while isinstance(notice := self.receive(), StopNotice):
            attempt.announce(notice.stop, notice.reason)


def serve(connection: socket.socket, prepare: Prepare) -> None:
    """Get ready for the one job, run it, and return when the stop hooks are through."""
    line = _Line(connection)
    watch_forks()
    hang_up_in_copies(connection)
    # If memory runs out, the kernel kills this process and its children first, and not the worker.
    with suppress(OSError):
        _OOM_SCORE.write_text("1000")
    try:
        manager = _find_manager(prepare, line)
        collaborators, settings = manager._enter_child(prepare.home)  # noqa: SLF001 - only a manager has them
        _find_task(prepare, collaborators)
    except BaseException as error:  # noqa: BLE001 - the worker gets whatever an import raises
        line.send(Prepared(error=_words(error)))
    else:
        take_part()
        with JobRecords(collaborators.redactor):
            run_on_loop(_QuarantinedJob(line, collaborators, settings, close=manager.close).work())


def _find_manager(prepare: Prepare, line: _Line) -> Any:
    module, _, attribute = prepare.home.place.partition(":")
    line.send(Busy(doing=f"the import of {module}"))
    return attrgetter(attribute)(importlib.import_module(module))


def _find_task(prepare: Prepare, collaborators: Collaborators) -> None:
    registry = collaborators.registry
    if registry.resolve_for_run(prepare.task) is None and prepare.module is not None:
        # The program that runs the worker may import the task's module, and the manager's module may not.
        importlib.import_module(prepare.module)
    if registry.resolve_for_run(prepare.task) is None:
        raise LookupError(f"{prepare.home.place} does not know the task {prepare.task!r} there")


class _QuarantinedJob:
    """Runs the start hooks, the job and the stop hooks, as a worker does, and answers the worker."""

    def __init__(
        self,
        line: _Line,
        collaborators: Collaborators,
        settings: WorkerSettings,
        *,
        close: Callable[[], Awaitable[object]],
    ) -> None:
        self._line = line
        self._collaborators = collaborators
        self._settings = settings
        self._close = close
        self._base = BaseContext()

    async def work(self) -> None:
        hooks = HookRun(self._collaborators.hooks, clock=self._collaborators.clock)
        try:
            try:
                await hooks.start(
                    stopping=asyncio.Event(),
                    context=self._base.context,
                    tell=lambda doing: self._line.send(Busy(doing=doing)),
                )
            except Exception as error:  # noqa: BLE001 - the worker gets it
                self._line.send(Prepared(error=_words(error)))
                return
            self._base.freeze()
            self._line.send(Prepared())
            run = await asyncio.to_thread(self._line.receive)
            if isinstance(run, Run):
                self._line.send(Done(settlement=await self._run(run, hooks.state)))
        finally:
            await hooks.stop()
            await self._close()

    async def _run(self, run: Run, state: WorkerState) -> Settlement:
        job = msgspec.structs.replace(run.job, has_started=True, is_quarantined=False)
        attempt = Attempt(job, claimed=self._collaborators.clock.monotonic())
        stops = threading.Thread(target=self._line.hear_stops, args=(attempt,), name="deeper-stops", daemon=True)
        stops.start()
        parts = self._parts(run)
        runner = Runner(parts, executors=assemble_executors(parts, threads=1, process=_MainThread()), state=state)
        attempt.task = asyncio.Task(runner.run(attempt), context=self._base.fresh())
        end = await attempt.task
        # Only the worker knows that an attempt is lost, and it runs transactional tasks itself.
        assert isinstance(end, Settlement)
        return end

    def _parts(self, run: Run) -> ExecutionParts:
        """Return the parts of a worker, but for those by which this process would act in its place."""
        # The worker takes the secrets out of what it is sent, and announces the start of the attempt.
        collaborators = dataclasses.replace(
            self._collaborators, bus=_QuietBus(self._collaborators.bus), redactor=Redactor()
        )
        parts = assemble_execution(collaborators, self._settings)
        return dataclasses.replace(parts, reporter=_News(parts, line=self._line), call_settings=lambda: run.settings)


class _News(Reporter):
    """Sends progress and log lines to the worker, at once."""

    def __init__(self, parts: ExecutionParts, *, line: _Line) -> None:
        super().__init__(parts.store, token_of=lambda _: None, redaction=parts.redaction)
        self._line = line

    def progress(self, job_id: JobId, progress: Progress) -> None:  # noqa: ARG002 - one job at a time
        self._line.send(ProgressMade(progress=progress))

    def log(self, job_id: JobId, line: str) -> None:  # noqa: ARG002 - one job at a time
        self._line.send(Logged(line=line))


class _QuietBus(EventBus):
    """The application's bus in this process, without the start of the attempt, which the worker announces."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__()
        self._bus = bus

    def wants(self, kind: type[Event]) -> bool:
        return kind is not JobStarted and self._bus.wants(kind)

    def emit(self, event: Event) -> None:
        self._bus.emit(event)


class _MainThread:
    """Runs a task with `executor="process"` in the main thread, as in the processes for jobs."""

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
        except BaseException as error:  # noqa: BLE001 - an exception of a handler ends its attempt only
            leave_if_copy(self._pid, error)
            return verdict.raised(call, error, timedelta(seconds=time.monotonic() - started), attempt)
        return verdict.returned(call, value, timedelta(seconds=time.monotonic() - started), attempt)

    async def close(self) -> None:
        """Nothing is to be closed."""


@contextmanager
def _loop_at_rest() -> Iterator[None]:
    """Inside the `with`, let no loop run in this thread, because a `def` in a process for jobs may run its own."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asyncio.tasks._leave_task(loop, task)  # noqa: SLF001 - like a loop between two steps of tasks
    asyncio._set_running_loop(None)  # noqa: SLF001 - the same
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001 - the same
        asyncio.tasks._enter_task(loop, task)  # noqa: SLF001 - the same


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {words_of(error)}"
