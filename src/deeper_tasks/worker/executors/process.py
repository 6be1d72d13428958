"""The process executor: runs a task in a child process, which an interruption kills with all it started."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from deeper_tasks.domain.job import Progress
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.tasks import Reporter
from deeper_tasks.worker.attempt import Attempt
from deeper_tasks.worker.call import Call, CallSettings
from deeper_tasks.worker.executors import frames
from deeper_tasks.worker.executors.frames import Done, Exited, Fork, Forked, Kill, Logged, ProgressMade, Ready, Setup
from deeper_tasks.worker.host import child_mark


class ProcessDiedError(Exception):
    """The child process ended before its job did: a crash, `os._exit`, or the kernel's want of memory."""


class _Child:
    """A child as the worker sees it."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.reader = reader
        self.writer = writer
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class ProcessExecutor:
    """
    Keeps a zygote, which has imported the application, and the children forked from it.

    Children are used again and again; one that was killed or died is replaced.
    When the worker ends in whatever way, the zygote kills them all.
    """

    def __init__(
        self, *, modules: Callable[[], Iterable[str]], reporter: Reporter, settings: Callable[[], CallSettings]
    ) -> None:
        self._modules = modules
        self._reporter = reporter
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._control: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._forks: deque[asyncio.Future[int]] = deque()
        self._children: dict[int, _Child] = {}
        self._early_exits: dict[int, int] = {}
        self._idle: list[_Child] = []
        self._starting = asyncio.Lock()

    async def warm_up(self) -> None:
        """Start the zygote. What is wrong with it is told by the first job that needs it."""
        with suppress(ProcessDiedError):
            await self._ensure_zygote()

    async def run(self, attempt: Attempt, call: Call) -> Settlement:
        """Run a call in a child and wait until it answered or its process is gone."""
        child = await self._take_child()
        attempt.interrupt = lambda: self._send(Kill(pid=child.pid))
        if attempt.stop is not None:
            attempt.interrupt()
        started = time.perf_counter()
        try:
            settlement = await self._converse(child, attempt, call)
        finally:
            attempt.interrupt = None
        if settlement is not None:
            if attempt.stop is None:
                self._idle.append(child)
            else:
                # An order to kill it may still be under way, and would hit the next job.
                child.writer.close()
            return settlement
        code = await child.exited
        child.writer.close()
        error = ProcessDiedError(f"the process that ran this job {_describe(code)}")
        return call.broken_off(error, timedelta(seconds=time.perf_counter() - started))

    async def close(self) -> None:
        """Kill the children and the zygote."""
        if self._process is None:
            return
        for child in self._children.values():
            child.writer.close()
        if self._control is not None:
            self._control.close()
        if self._listening is not None:
            self._listening.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
        self._process = None

    async def _converse(self, child: _Child, attempt: Attempt, call: Call) -> Settlement | None:
        assert attempt.context is not None
        assert call.task.module is not None
        child.writer.write(
            frames.encode(
                frames.Run(
                    module=call.task.module,
                    qualname=call.task.qualname,
                    job=call.job,
                    timeout=attempt.context.timeout,
                    settings=self._settings(),
                )
            )
        )
        while True:
            match await frames.read(child.reader):
                case ProgressMade(progress=Progress() as progress):
                    self._reporter.progress(call.job.id, progress)
                case Logged(line=line):
                    self._reporter.log(call.job.id, line)
                case Done(settlement=settlement):
                    return settlement
                case _:
                    return None

    async def _take_child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if not child.exited.done():
                return child
            child.writer.close()
        return await self._fork()

    async def _fork(self) -> _Child:
        await self._ensure_zygote()
        ours, theirs = socket.socketpair()
        with theirs:
            forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._forks.append(forked)
            assert self._control is not None
            await self._control.drain()
            transport_socket = self._control.get_extra_info("socket")
            _send_descriptor(transport_socket.fileno(), frames.encode(Fork()), theirs.fileno())
            pid = await forked
        reader, writer = await asyncio.open_connection(sock=ours)
        child = self._children[pid] = _Child(pid, reader, writer)
        if (code := self._early_exits.pop(pid, None)) is not None:
            self._note_exit(pid, code)
        return child

    async def _ensure_zygote(self) -> None:
        async with self._starting:
            if self._process is not None and self._process.poll() is None and self._listening is not None:
                return
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = _start_zygote(theirs.fileno())
            reader, self._control = await asyncio.open_connection(sock=ours)
            self._send(Setup(path=sys.path, modules=sorted(set(self._modules()))))
            ready = await frames.read(reader)
            if not isinstance(ready, Ready) or ready.error is not None:
                reason = ready.error if isinstance(ready, Ready) else "it ended at once"
                self._control.close()
                # Not here on the loop: only its next turn closes the socket, and the zygote ends after that.
                await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
                raise ProcessDiedError(f"the application could not be imported in a process of its own: {reason}")
            self._listening = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            match await frames.read(reader):
                case Forked(pid=pid):
                    self._forks.popleft().set_result(pid)
                case Exited(pid=pid, code=code):
                    self._note_exit(pid, code)
                case None:
                    break
        # The zygote is gone, and all children with it.
        self._listening = None
        if self._control is not None:
            self._control.close()
        for pid in list(self._children):
            self._note_exit(pid, -9)
        while self._forks:
            self._forks.popleft().set_exception(ProcessDiedError("the process that forks the others has died"))

    def _note_exit(self, pid: int, code: int) -> None:
        child = self._children.pop(pid, None)
        if child is None:
            self._early_exits[pid] = code
        elif not child.exited.done():
            child.exited.set_result(code)

    def _send(self, frame: Setup | Kill) -> None:
        if self._control is not None:
            with suppress(OSError):
                self._control.write(frames.encode(frame))


def _start_zygote(control: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "deeper_tasks.worker.executors.zygote", str(control)],
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **child_mark(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )


def _send_descriptor(control: int, data: bytes, descriptor: int) -> None:
    with socket.socket(fileno=os.dup(control)) as connection:
        socket.send_fds(connection, [data], [descriptor])


def _describe(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
