"""The process executor: runs a task in a child process, which an interruption kills with all it started."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import UNSET

from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.errors import HookError
from deeper_tasks.integrations.logs import logs_warnings
from deeper_tasks.run_in_thread import run_in_thread
from deeper_tasks.tasks import Reporter
from deeper_tasks.tasks.arguments import UnfitArgumentsError
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.attempt import Attempt
from deeper_tasks.worker.execution.call import Call, CallSettings
from deeper_tasks.worker.execution.deadlines import Deadlines
from deeper_tasks.worker.execution.executors import frames
from deeper_tasks.worker.execution.executors.family import is_told, memory_above
from deeper_tasks.worker.execution.executors.frames import (
    Declined,
    Done,
    Exited,
    Fork,
    Forked,
    GarbledError,
    Kill,
    Logged,
    ProgressMade,
    Ready,
    Setup,
    Started,
    Told,
    Unforked,
    Unwatch,
    Unwatched,
    Watch,
)
from deeper_tasks.worker.execution.executors.log_receiver import LogReceiver
from deeper_tasks.worker.execution.executors.log_sender import levels_here
from deeper_tasks.worker.execution.executors.preparation import Preparation, wait_for_first
from deeper_tasks.worker.execution.hook_names import HookNames, name_redactor
from deeper_tasks.worker.execution.hooks import STOP_SECONDS
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.liveness.host import child_mark

_logger = logging.getLogger("deeper_tasks")

_ZYGOTE = "deeper_tasks.worker.execution.executors.zygote"
_MEGABYTE = 1024 * 1024
_LAST_WORDS = 1.0
"""Seconds between a child's end and the end of what may still be heard of it."""
_MOST_NEWS, _LONGEST_ESCAPE = 64 * _MEGABYTE, 6
"""Bytes of a frame beside its result, and of a character there that JSON has to escape."""


class ProcessDiedError(Exception):
    """The child process ended before its job did: a crash, `os._exit`, or the kernel's want of memory."""


class MemoryLimitError(ProcessDiedError, MemoryError):
    """The job, with all that it started, used more memory than its limit, and was killed."""


class ForkedChild:
    """A child as the worker sees it. `is_orphaned`: it ended with the zygote, and all others with it."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.reader = reader
        self.writer = writer
        self.is_started = False
        self.is_orphaned = False
        self.fault: str | None = None
        self.exited: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()


class ProcessExecutor:
    """
    Keeps a zygote, which has imported the application, and the children forked from it.

    Children are used again and again; one that was killed or died is replaced.
    A killed child, one that died and the end of the worker take all with them that was
    started there; on Linux also what has gone into a session of its own.
    When the worker ends in whatever way, the zygote kills them all.
    """

    def __init__(
        self,
        *,
        modules: Callable[[], Iterable[str]],
        reporter: Reporter,
        settings: Callable[[], CallSettings],
        deadlines: Deadlines,
        memory_limit_mb: int | None = None,
        hooks: HookNames | None = None,
        redactor: Redactor | None = None,
        records: JobRecords | None = None,
    ) -> None:
        self._modules = modules
        self._hooks = hooks
        self._redactor = redactor
        self._records = records
        self._reporter = reporter
        self._settings = settings
        self._deadlines = deadlines
        self._memory_limit_mb = memory_limit_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._control: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._forks: deque[asyncio.Future[int]] = deque()
        self._children: dict[int, ForkedChild] = {}
        self._early_exits: dict[int, Exited] = {}
        self._idle: list[ForkedChild] = []
        self._starting: asyncio.Task[None] | None = None
        self._has_warned = False
        self._importing = Preparation()
        self._logs: LogReceiver | None = None

    async def warm_up(self) -> None:
        """Start the zygote. What is wrong with it is told by the first job that needs it."""
        with suppress(ProcessDiedError):
            await self._ensure_zygote()

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run a call in a child and wait until it answered or its process is gone."""
        limit = self.memory_limit(call)
        # The application's import is not the job's time.
        self._deadlines.hold(attempt)
        child = await self.obtain(attempt, limit=limit)
        if child is None:
            return verdict.unbegun(call, attempt)
        if not await self._begins(attempt, child):
            return verdict.unbegun(call, attempt)
        assert attempt.context is not None
        self._deadlines.watch(attempt, attempt.context.timeout)
        end = await self.run_in(child, attempt, call, limit=limit)
        if isinstance(end, Declined):
            # By what an earlier job has left there, most likely.
            _logger.warning("a process for jobs could not run another job, which a new one runs now: %s", end.reason)
            child = await self._fork_for(attempt)
            if child is None:
                return verdict.unbegun(call, attempt)
            end = await self.run_in(child, attempt, call, limit=limit)
        if isinstance(end, Declined):
            raise ProcessDiedError(f"a new process for jobs could not run it: {end.reason}")
        if isinstance(end, Settlement):
            return end
        if attempt.forced or end.is_worn:
            # Told to stop, an order to kill it may still be under way, and would hit the next job.
            child.writer.close()
        elif limit is None:
            self._idle.append(child)
        else:
            # Idle only when the zygote has let go of it: its limit is not the next job's.
            self._send(Unwatch(pid=child.pid))
        if end.settlement.is_unfit:
            raise UnfitArgumentsError(end.settlement.reason)
        return end.settlement

    async def _begins(self, attempt: Attempt, child: ForkedChild) -> bool:
        """Tell that the handler is about to be called; False: the attempt was told to stop, and the child is free."""
        if attempt.begin is None:
            return True
        is_begun = False
        try:
            await attempt.begin()
            is_begun = not attempt.forced
        finally:
            if not is_begun:
                self._idle.append(child)
        return is_begun

    async def obtain(self, attempt: Attempt, *, limit: int | None = None) -> ForkedChild | None:
        """
        Return a child for a job that may use so many bytes of memory; None: its attempt was told to stop meanwhile.

        Raises:
            ProcessDiedError: none can be forked.
        """
        return self._take_idle(limit) or await self._fork_for(attempt)

    async def run_in(
        self, child: ForkedChild, attempt: Attempt, call: Call, *, limit: int | None, at_start: int = 0
    ) -> Done | Declined | Settlement:
        """
        Run a call in this child, which may use so many bytes of memory beyond those that it used `at_start`.

        Returns what the child said at the end, or, when its process is gone, the settlement of that. Where it has
        declined, the child ends.
        """
        if limit is not None:
            self._send(Watch(pid=child.pid, memory_limit=limit + at_start))
        attempt.interrupt = lambda: self.kill(child)
        if attempt.forced:
            attempt.interrupt()
        started = time.monotonic()
        try:
            done = await self._converse(child, attempt, call)
        except asyncio.CancelledError:
            # By the middleware, at a timeout of its own: its code must not go on with nobody to listen.
            self.kill(child)
            await _until(child.exited)
            child.writer.close()
            raise
        finally:
            attempt.interrupt = attempt.pass_on = None
        if isinstance(done, Declined):
            child.writer.close()
        if done is not None:
            return done
        error = await self.death(child, _over(limit or 0, at_start=at_start))
        ran_for = timedelta(seconds=time.monotonic() - started)
        settlement = verdict.broken_off(call, error, ran_for, attempt) or call.broken_off(error, ran_for)
        if child.is_orphaned and call.task.has_quarantine:
            # One of them may have killed the zygote, and would do so again.
            settlement = msgspec.structs.replace(settlement, is_process_lost=True)
        return settlement

    def kill(self, child: ForkedChild) -> None:
        """Have a child killed with all it started; that it is done shows in its `exited`."""
        self._send(Kill(pid=child.pid))

    async def close(self) -> None:
        """Kill the children and the zygote."""
        if self._process is not None:
            await self._end(self._process)
            self._process = None
        if self._logs is not None:
            await run_in_thread(self._logs.close)
            self._logs = None

    async def _end(self, zygote: subprocess.Popen[bytes]) -> None:
        for child in self._children.values():
            child.writer.close()
            if not child.is_started:
                self.kill(child)
        if self._hooks is not None and self._children:
            # Their stop hooks run now, and the zygote kills what is left when its socket is closed.
            await asyncio.wait({child.exited for child in self._children.values()}, timeout=STOP_SECONDS)
        if self._control is not None:
            self._control.close()
        if self._listening is None:
            # Still at its import, and with no children: it would not hear before its end.
            zygote.kill()
        else:
            self._listening.cancel()
        await run_in_thread(zygote.wait)
        if self._starting is not None:
            await asyncio.wait({self._starting})

    def memory_limit(self, call: Call) -> int | None:
        """Return how many bytes of memory a job in a process may use; None: as many as it likes."""
        own = call.task.memory_limit_mb
        limit = self._memory_limit_mb if own is UNSET else own
        if limit is not None and not self._has_warned and not is_told():
            self._has_warned = True
            _logger.warning("this system does not tell what memory a process uses: limits of memory are not kept")
        return None if limit is None else limit * _MEGABYTE

    async def _converse(self, child: ForkedChild, attempt: Attempt, call: Call) -> Done | Declined | None:
        """Hand the job over and listen until its end; None when there is nobody to hear from any more."""
        assert attempt.context is not None
        child.writer.write(
            frames.encode(
                frames.Run(
                    module=call.task.module or "",
                    qualname=call.task.qualname,
                    job=call.job,
                    timeout=attempt.context.timeout,
                    settings=self._settings(),
                )
            )
        )
        attempt.pass_on = lambda stop, reason: child.writer.write(frames.encode(Told(stop=stop, reason=reason)))
        for stop in attempt.told:
            attempt.pass_on(stop, attempt.reason)
        most = _MOST_NEWS + _LONGEST_ESCAPE * self._settings().max_result_bytes
        try:
            while True:
                match await frames.read(child.reader, most=most):
                    case ProgressMade(progress=Progress() as progress):
                        self._reporter.progress(call.job.id, progress)
                    case Logged(line=line):
                        self._reporter.log(call.job.id, line)
                    case (Done() | Declined()) as done:
                        return done
                    case _:
                        return None
        except GarbledError:
            self._give_up(child, "wrote something of its own to the worker's connection")
            return None

    async def death(self, child: ForkedChild, over_limit: str = "") -> ProcessDiedError:
        """Return why nothing more is heard of a child, once it is gone; `over_limit`: if killed for its memory."""
        await asyncio.wait({child.exited}, timeout=_LAST_WORDS)
        if not child.exited.done():
            # Whatever it still does, nobody would hear of its end.
            self._give_up(child, "closed its connection to the worker")
        exited = await child.exited
        child.writer.close()
        if exited.is_over_limit:
            return MemoryLimitError(over_limit)
        is_ours = child.fault is not None and exited.code == -signal.SIGKILL
        reason = f"{child.fault} and was killed" if is_ours else _describe(exited.code)
        return ProcessDiedError(f"the process that ran this job {reason}")

    def _give_up(self, child: ForkedChild, fault: str) -> None:
        child.fault = child.fault or fault
        self.kill(child)

    def _take_idle(self, limit: int | None) -> ForkedChild | None:
        while self._idle:
            child = self._idle.pop()
            if not child.exited.done() and not _is_too_big(child, limit):
                return child
            child.writer.close()
        return None

    async def _fork_for(self, attempt: Attempt) -> ForkedChild | None:
        """Return a new child; None when the attempt was told to stop before there was one, as during the import."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        preparation = Preparation()
        forking = asyncio.create_task(self._fork(preparation), context=Context())
        attempt.interrupt = lambda: None if told.done() else told.set_result(None)
        try:
            either: set[asyncio.Future[Any]] = {forking, told}
            await wait_for_first(
                either,
                job=attempt.job,
                doing=lambda: self._importing.doing if self._listening is None else preparation.doing,
            )
        finally:
            attempt.interrupt = None
            if not forking.done():
                forking.add_done_callback(self._put_aside)
        return forking.result() if forking.done() else None

    def _put_aside(self, forking: asyncio.Task[ForkedChild]) -> None:
        """Keep a child that came too late for who wanted it."""
        if not forking.cancelled() and forking.exception() is None:
            self._idle.append(forking.result())

    async def _fork(self, preparation: Preparation) -> ForkedChild:
        await self._ensure_zygote()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                control = self._control.get_extra_info("socket").fileno()
                _send_descriptor(control, frames.encode(Fork()), theirs.fileno())
                forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                self._forks.append(forked)
                pid = await forked
        except OSError as error:
            ours.close()
            raise ProcessDiedError(f"the process that forks the others has died: {error}") from error
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours)
        child = self._children[pid] = ForkedChild(pid, reader, writer)
        if (exited := self._early_exits.pop(pid, None)) is not None:
            self._note_exit(exited)
        if self._hooks is not None:
            await self._until_started(child, preparation)
        child.is_started = True
        return child

    async def _until_started(self, child: ForkedChild, preparation: Preparation) -> None:
        """Wait until a child's start hooks have run. Raises HookError where they failed."""
        try:
            frame = await preparation.read(child.reader)
        except TimeoutError as error:
            self._give_up(child, "took too long")
            await self.death(child)
            _logger.error("a process for jobs did not start: %s", error)  # noqa: TRY400 - its traceback tells nothing
            raise HookError(f"a process for jobs did not start: {error}") from error
        except GarbledError:
            self._give_up(child, "was not through with its start hooks")
            frame = None
        if isinstance(frame, Started) and frame.error is None:
            return
        if not isinstance(frame, Started) or frame.error is None:
            raise HookError(f"a process for jobs did not start: {await self.death(child)}")
        child.writer.close()
        _logger.error("a process for jobs did not start: %s\n%s", frame.error.message, frame.error.traceback)
        raise HookError(frame.error.message)

    async def _ensure_zygote(self) -> None:
        if self._listening is not None:
            return
        if self._starting is None or self._starting.done():
            # As the children, it outlives the job that asks for it: in a context of its own.
            self._starting = asyncio.create_task(self._start_zygote(), context=Context())
            # Told to who waits for it; where nobody does any more, it is no news.
            self._starting.add_done_callback(lambda starting: starting.cancelled() or starting.exception())
        # Several wait for it, and one of them may be told to stop; each has an error of its own.
        try:
            await asyncio.shield(self._starting)
        except ProcessDiedError as error:
            raise ProcessDiedError(str(error)) from error

    async def _start_zygote(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._logs = self._logs or LogReceiver(self._records)
                process = self._process = _start_zygote(theirs.fileno(), logs=self._logs.theirs.fileno())
        except OSError as error:
            ours.close()
            raise ProcessDiedError(f"no process can be started now: {error}") from error
        reader, control = await asyncio.open_connection(sock=ours)
        self._control = control
        modules = {*self._modules(), *(self._hooks.modules if self._hooks is not None else ())}
        self._send(
            Setup(
                path=sys.path,
                modules=sorted(modules),
                hooks=self._hooks,
                redactor=None if self._redactor is None else name_redactor(self._redactor),
                log_levels=levels_here(),
                logs_disabled=logging.root.manager.disable,
                logs_warnings=logs_warnings(),
            )
        )
        self._importing = Preparation()
        reason = await _why_not_ready(reader, self._importing)
        if reason is not None:
            control.close()
            process.kill()
            # Not here on the loop: only its next turn closes the socket, and the zygote ends after that.
            await run_in_thread(process.wait)
            raise ProcessDiedError(f"the application could not be imported in a process of its own: {reason}")
        self._listening = asyncio.create_task(self._listen(reader, process))

    async def _listen(self, reader: asyncio.StreamReader, process: subprocess.Popen[bytes]) -> None:
        try:
            while (frame := await frames.read(reader)) is not None:
                self._obey(frame)
        except GarbledError:
            _logger.exception("the process that forks the others sent what is no message; another takes its place")
        # It is gone, and all children with it, or can be understood no more.
        process.kill()
        await run_in_thread(process.wait)
        self._lose_zygote()

    def _obey(self, frame: frames.Frame) -> None:
        match frame:
            case Forked(pid=pid):
                self._forks.popleft().set_result(pid)
            case Unforked(error=error):
                self._forks.popleft().set_exception(ProcessDiedError(f"no process can be forked now: {error}"))
            case Exited() as exited:
                self._note_exit(exited)
            case Unwatched(pid=pid) if pid in self._children:
                self._idle.append(self._children[pid])

    def _lose_zygote(self) -> None:
        self._listening = None
        if self._control is not None:
            self._control.close()
        for pid, child in list(self._children.items()):
            child.is_orphaned = True
            self._note_exit(Exited(pid=pid, code=-signal.SIGKILL))
        while self._forks:
            self._forks.popleft().set_exception(ProcessDiedError("the process that forks the others has died"))

    def _note_exit(self, exited: Exited) -> None:
        child = self._children.pop(exited.pid, None)
        if child is None:
            self._early_exits[exited.pid] = exited
        elif not child.exited.done():
            child.exited.set_result(exited)
            # A process that it forked may hold the connection open. What it said itself is read by then.
            asyncio.get_running_loop().call_later(_LAST_WORDS, child.writer.close)

    def _send(self, frame: Setup | Kill | Watch | Unwatch) -> None:
        if self._control is not None:
            with suppress(OSError):
                self._control.write(frames.encode(frame))


def _start_zygote(control: int, *, logs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [
            sys.executable,
            "-m",
            "deeper_tasks.worker.execution.executors.zygote",
            str(control),
            str(os.getpid()),
            str(logs),
        ],
        pass_fds=[control, logs],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **child_mark(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )


def _send_descriptor(control: int, data: bytes, descriptor: int) -> None:
    with socket.socket(fileno=os.dup(control)) as connection:
        socket.send_fds(connection, [data], [descriptor])


async def _why_not_ready(zygote: asyncio.StreamReader, importing: Preparation) -> str | None:
    try:
        ready = await importing.read(zygote)
    except GarbledError:
        return "it wrote something of its own to the worker's connection"
    except TimeoutError as error:
        return str(error)
    return ready.error if isinstance(ready, Ready) else "it ended at once"


def _is_too_big(child: ForkedChild, limit: int | None) -> bool:
    """Whether earlier jobs have left a child so big that the next might be killed for it."""
    return limit is not None and memory_above(child.pid, limit // 2) is not None


async def _until(exited: asyncio.Future[Exited]) -> None:
    """Wait for the end of a process, however often the one who waits is cancelled."""
    while not exited.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({exited})


def _over(limit: int, *, at_start: int) -> str:
    said = f"used more than {limit // _MEGABYTE} MB of memory"
    return f"{said}, what its process used before its start not counted" if at_start else said


def _describe(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was ended by signal {-code}"
