"""The zygote client: starts the process that forks the children, has it fork and kill, and hears of their ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context

from deeper_tasks.errors import HookError
from deeper_tasks.integrations.logs import logs_warnings
from deeper_tasks.run_in_thread import run_in_thread
from deeper_tasks.worker.execution.executors import frames
from deeper_tasks.worker.execution.executors.application import Application
from deeper_tasks.worker.execution.executors.forked_child import ForkedChild, ProcessDiedError
from deeper_tasks.worker.execution.executors.frames import (
    Exited,
    Fork,
    Forked,
    GarbledError,
    Kill,
    Ready,
    Setup,
    Started,
    Unforked,
    Unwatch,
    Unwatched,
    Watch,
)
from deeper_tasks.worker.execution.executors.log_receiver import LogReceiver
from deeper_tasks.worker.execution.executors.log_sender import levels_here
from deeper_tasks.worker.execution.executors.preparation import Preparation
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.hooks.hook_names import name_redactor
from deeper_tasks.worker.hooks.hooks import STOP_SECONDS
from deeper_tasks.worker.liveness.host import child_mark

_logger = logging.getLogger("deeper_tasks")

_LAST_WORDS = 1.0
"""Seconds after a child's end in which its last frames may still arrive."""


class ZygoteClient:
    """
    Starts a zygote when the first child is asked for, and another one after it has died.

    `on_unwatched` is called with a child whose memory is not watched any more, and which may run another job.
    When the worker ends in whatever way, the zygote kills all children.
    """

    def __init__(
        self,
        application: Application,
        *,
        records: JobRecords | None = None,
        on_unwatched: Callable[[ForkedChild], object] = lambda _: None,
    ) -> None:
        self._application = application
        self._records = records
        self._on_unwatched = on_unwatched
        self._process: subprocess.Popen[bytes] | None = None
        self._control: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._forks: deque[asyncio.Future[int]] = deque()
        self._children: dict[int, ForkedChild] = {}
        self._early_exits: dict[int, Exited] = {}
        self._starting: asyncio.Task[None] | None = None
        self._importing = Preparation()
        self._logs: LogReceiver | None = None

    def busy_with(self, preparation: Preparation) -> str:
        """Return in words what the start of a child waits for: the import, or its own `preparation`."""
        return self._importing.doing if self._listening is None else preparation.doing

    async def start(self) -> None:
        """
        Return when the zygote has imported the application.

        Raises:
            ProcessDiedError: it could not be started, or the import failed.
        """
        if self._listening is not None:
            return
        if self._starting is None or self._starting.done():
            # In a context of its own, because the zygote outlives the job that asks for it.
            self._starting = asyncio.create_task(self._start(), context=Context())
            # An error reaches the tasks that wait; without any, asyncio must not log it as never retrieved.
            self._starting.add_done_callback(lambda starting: starting.cancelled() or starting.exception())
        # Several tasks wait for it, and one of them may be cancelled. Each gets its own error.
        try:
            await asyncio.shield(self._starting)
        except ProcessDiedError as error:
            raise ProcessDiedError(str(error)) from error

    async def fork(self, preparation: Preparation) -> ForkedChild:
        """
        Return a new child whose start hooks have run; `preparation` says what it is busy with meanwhile.

        Raises:
            ProcessDiedError: no child can be forked.
            HookError: one of its start hooks failed.
        """
        await self.start()
        assert self._control is not None
        here, theirs = socket.socketpair()
        try:
            with theirs:
                control = self._control.get_extra_info("socket").fileno()
                _send_descriptor(control, frames.encode(Fork()), theirs.fileno())
                forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                self._forks.append(forked)
                pid = await forked
        except OSError as error:
            here.close()
            raise ProcessDiedError(f"the process that forks the others has died: {error}") from error
        except BaseException:
            here.close()
            raise
        reader, writer = await asyncio.open_connection(sock=here)
        child = self._children[pid] = ForkedChild(pid, reader, writer)
        if (exited := self._early_exits.pop(pid, None)) is not None:
            self._note_exit(exited)
        if self._application.hooks is not None:
            await self._until_started(child, preparation)
        child.is_started = True
        return child

    async def _until_started(self, child: ForkedChild, preparation: Preparation) -> None:
        """Wait until a child's start hooks have run. Raises HookError if they failed."""
        try:
            frame = await preparation.read(child.reader)
        except TimeoutError as error:
            self.give_up(child, "took too long")
            await self.death(child)
            _logger.error("a process for jobs did not start: %s", error)  # noqa: TRY400 - its traceback says nothing
            raise HookError(f"a process for jobs did not start: {error}") from error
        except GarbledError:
            self.give_up(child, "was not through with its start hooks")
            frame = None
        if isinstance(frame, Started) and frame.error is None:
            return
        if not isinstance(frame, Started) or frame.error is None:
            raise HookError(f"a process for jobs did not start: {await self.death(child)}")
        child.writer.close()
        _logger.error("a process for jobs did not start: %s\n%s", frame.error.message, frame.error.traceback)
        raise HookError(frame.error.message)

    def kill(self, child: ForkedChild) -> None:
        """Have a child killed with all it started; its `exited` is done afterwards."""
        self._send(Kill(pid=child.pid))

    def watch(self, child: ForkedChild, memory_limit: int) -> None:
        """Have a child killed when it and all it started use more memory than this, in bytes."""
        self._send(Watch(pid=child.pid, memory_limit=memory_limit))

    def unwatch(self, child: ForkedChild) -> None:
        """Let a child use as much memory as it needs; `on_unwatched` is called when that holds."""
        self._send(Unwatch(pid=child.pid))

    def give_up(self, child: ForkedChild, fault: str) -> None:
        """Have a child killed for a fault, which its error will name."""
        child.fault = child.fault or fault
        self.kill(child)

    async def death(self, child: ForkedChild, over_limit: str = "") -> ProcessDiedError:
        """Return why nothing more is heard of a child, once it is gone; `over_limit`: if killed for its memory."""
        await asyncio.wait({child.exited}, timeout=_LAST_WORDS)
        if not child.exited.done():
            # It may run on, but the worker would not hear of its end.
            self.give_up(child, "closed its connection to the worker")
        exited = await child.exited
        child.writer.close()
        return child.error(exited, over_limit)

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
        if self._application.hooks is not None and self._children:
            # Their stop hooks run now. The zygote kills children that are left when its socket is closed.
            await asyncio.wait({child.exited for child in self._children.values()}, timeout=STOP_SECONDS)
        if self._control is not None:
            self._control.close()
        if self._listening is None:
            # It still imports, and has no children: it would not hear of the stop before the import ends.
            zygote.kill()
        else:
            self._listening.cancel()
        await run_in_thread(zygote.wait)
        if self._starting is not None:
            await asyncio.wait({self._starting})

    async def _start(self) -> None:
        here, theirs = socket.socketpair()
        try:
            with theirs:
                self._logs = self._logs or LogReceiver(self._records)
                process = self._process = _start_process(theirs.fileno(), logs=self._logs.theirs.fileno())
        except OSError as error:
            here.close()
            raise ProcessDiedError(f"no process can be started now: {error}") from error
        reader, control = await asyncio.open_connection(sock=here)
        self._control = control
        self._send(self._setup())
        self._importing = Preparation()
        reason = await _why_not_ready(reader, self._importing)
        if reason is not None:
            control.close()
            process.kill()
            # In a thread: the socket is closed in the loop's next turn, and the zygote ends after that.
            await run_in_thread(process.wait)
            raise ProcessDiedError(f"the application could not be imported in a process of its own: {reason}")
        self._listening = asyncio.create_task(self._listen(reader, process))

    def _setup(self) -> Setup:
        application = self._application
        return Setup(
            path=sys.path,
            modules=application.all_modules(),
            hooks=application.hooks,
            redactor=None if application.redactor is None else name_redactor(application.redactor),
            log_levels=levels_here(),
            logs_disabled=logging.root.manager.disable,
            logs_warnings=logs_warnings(),
        )

    async def _listen(self, reader: asyncio.StreamReader, process: subprocess.Popen[bytes]) -> None:
        try:
            while (frame := await frames.read(reader)) is not None:
                self._obey(frame)
        except GarbledError:
            _logger.exception("the process that forks the others sent no valid message; another one takes its place")
        # It has ended with all its children, or what it sends cannot be read any more.
        process.kill()
        await run_in_thread(process.wait)
        self._lose()

    def _obey(self, frame: frames.Frame) -> None:
        match frame:
            case Forked(pid=pid):
                self._forks.popleft().set_result(pid)
            case Unforked(error=error):
                self._forks.popleft().set_exception(ProcessDiedError(f"no process can be forked now: {error}"))
            case Exited() as exited:
                self._note_exit(exited)
            case Unwatched(pid=pid) if pid in self._children:
                self._on_unwatched(self._children[pid])

    def _lose(self) -> None:
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
            # A process that it forked may hold the connection open. All that the child sent itself is read by then.
            asyncio.get_running_loop().call_later(_LAST_WORDS, child.writer.close)

    def _send(self, frame: Setup | Kill | Watch | Unwatch) -> None:
        if self._control is not None:
            with suppress(OSError):
                self._control.write(frames.encode(frame))


def _start_process(control: int, *, logs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this interpreter, and a module of the library
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
