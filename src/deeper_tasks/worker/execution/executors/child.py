"""The child: a forked process that runs one job after the other, and shares only a socket with the worker."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
import threading
import time
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.errors import HookError, InvalidArgumentsError
from deeper_tasks.integrations.tracebacks import words_of
from deeper_tasks.tasks import CurrentJob, Task, make_task, running_job
from deeper_tasks.tasks.arguments import UnfitArgumentsError
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import Call, report_error
from deeper_tasks.worker.execution.executors.child_hooks import ChildHooks, run_to_its_end
from deeper_tasks.worker.execution.executors.child_stops import ChildStops
from deeper_tasks.worker.execution.executors.family import children_of, has_ended
from deeper_tasks.worker.execution.executors.frames import (
    Busy,
    Declined,
    Done,
    Logged,
    Prepare,
    ProgressMade,
    Run,
    Started,
    StopNotice,
    encode,
    receive,
)
from deeper_tasks.worker.execution.executors.surroundings import Surroundings
from deeper_tasks.worker.execution.unfinished_code import is_awaitable
from deeper_tasks.worker.hooks.hook_names import HookNames
from deeper_tasks.worker.process.forks import hang_up_in_copies, is_copy_of, leave_if_copy, watch_forks


class _News:
    """Sends a job's news to the worker; handlers may report from threads of their own."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def progress(self, job_id: JobId, progress: Progress) -> None:  # noqa: ARG002 - one job at a time
        self.send(encode(ProgressMade(progress=progress)))

    def log(self, job_id: JobId, line: str) -> None:  # noqa: ARG002 - one job at a time
        self.send(encode(Logged(line=line)))

    def send(self, data: bytes) -> None:
        if is_copy_of(self._pid):
            # A copy that the job has forked must not write into the messages of this process.
            return
        with self._lock:
            self._connection.sendall(data)


def serve(connection: socket.socket, names: HookNames | None = None) -> None:
    """Run jobs until the worker closes the socket, or is gone."""
    news, hooks = _News(connection), ChildHooks(names)
    watch_forks()
    hang_up_in_copies(connection)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):
            if _start(hooks, news, are_there=names is not None):
                _serve(connection, news, hooks)
    finally:
        hooks.stop()


def _start(hooks: ChildHooks, news: _News, *, are_there: bool) -> bool:
    """Run the start hooks, and report to the worker how they ended."""
    try:
        hooks.start(lambda doing: news.send(encode(Busy(doing=doing))))
    except HookError as error:
        news.send(encode(Started(error=report_error(error))))
        return False
    if are_there:
        news.send(encode(Started()))
    return True


def _serve(connection: socket.socket, news: _News, hooks: ChildHooks) -> None:
    surroundings = Surroundings(hooks.loop)
    while True:
        frame, _ = receive(connection)
        if isinstance(frame, StopNotice):
            # A stop of an earlier job, whose handler has not asked for it.
            continue
        if isinstance(frame, Prepare):
            # Imported only when a job is in quarantine.
            from deeper_tasks.worker.execution.executors import quarantined

            quarantined.serve(connection, frame)
            return
        if not isinstance(frame, Run):
            return
        stops = ChildStops(connection)
        try:
            # In a copy of the context, so that variables of one job do not reach the next.
            settlement = hooks.base.fresh().run(_run, frame, news, stops, hooks)
        except BaseException as error:
            if stops.has_begun:
                raise
            news.send(encode(Declined(reason=f"{type(error).__name__}: {words_of(error)}")))
            return
        _flush_output()
        is_restored = surroundings.restore()
        news.send(encode(Done(settlement=settlement, is_worn=not is_restored or _is_worn())))


def _run(frame: Run, news: _News, stops: ChildStops, hooks: ChildHooks) -> Settlement:
    stops.timeout = frame.timeout
    try:
        task = _find(frame.module, frame.qualname)
    except BaseException as error:  # noqa: BLE001 - an import may raise anything; the process can go on
        return Call(frame.job, make_task(_absent), lambda: frame.settings).raised(error, timedelta(0))
    call = Call(frame.job, task, lambda: frame.settings)
    try:
        args, kwargs = call.arguments()
    except UnfitArgumentsError as error:
        return call.unfit(str(error))
    except InvalidArgumentsError as error:
        return call.refused(type(error).__name__, str(error))
    except BaseException as error:  # noqa: BLE001 - a class of the application raised while the arguments were made
        return call.raised(error, timedelta(0))
    current = CurrentJob(frame.job, frame.timeout, news, state=hooks.state, _stops=stops)
    pid = os.getpid()
    try:
        with hooks.jobs_loop() if task.leads_to_coroutine else nullcontext() as loop, running_job(current):
            stops.begin()
            value = _call(task, args, kwargs, loop)
    except BaseException as error:
        if not stops.has_begun:
            # For example, no loop can be made here. Another process may be able to.
            raise
        leave_if_copy(pid, error)
        stops.refresh()
        return verdict.raised(call, error, timedelta(seconds=time.monotonic() - stops.started), stops)
    leave_if_copy(pid)
    stops.refresh()
    return verdict.returned(call, value, timedelta(seconds=time.monotonic() - stops.started), stops)


def _call(
    task: Task[..., Any], args: list[Any], kwargs: dict[str, Any], loop: asyncio.AbstractEventLoop | None
) -> object:
    value: object = task.function(*args, **kwargs)
    return run_to_its_end(_await(value), loop) if loop is not None and is_awaitable(value) else value


async def _await(value: Any) -> object:
    return await value


def _flush_output() -> None:
    """Write the output of the job, because this process may be killed at any time, and the next job may be long."""
    for stream in (sys.stdout, sys.stderr):
        # A stream may be closed, or missing in a service.
        # A stream of the application may raise anything, and the worker does not know the job's end yet.
        with suppress(BaseException):
            stream.flush()


def _is_worn() -> bool:
    """
    Whether this process should not run another job.

    Processes that a job left running become children of this process when their parents end, and must end with it:
    no code waits for them, and to wait for all children would also take those that a handler wants to wait for.
    """
    try:
        return sys.platform == "linux" and any(map(has_ended, children_of(os.getpid())))
    except OSError:
        # Most likely no file descriptor is left, and the next job would have none either.
        return True


def _absent() -> None:
    """Stand for a task that cannot be found in this process."""


def _find(module: str, qualname: str) -> Task[..., Any]:
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    # A function of an allowed module is a task without a decorator.
    return found if isinstance(found, Task) else make_task(found, executor="process")
