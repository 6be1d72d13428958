"""
The zygote: a process that has imported the application once, and forks the children that run jobs.

Run as a program by the process executor. It runs no job itself and has no
threads, so it always answers: when its worker is gone it kills all children,
each with everything it started, and ends.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.integrations.logs import keep_enabled, log_warnings
from deeper_tasks.integrations.tracebacks import format_traceback
from deeper_tasks.worker.execution.executors import child
from deeper_tasks.worker.execution.executors.family import children_of, memory_above
from deeper_tasks.worker.execution.executors.frames import (
    Busy,
    Exited,
    Fork,
    Forked,
    Frame,
    Kill,
    Ready,
    Setup,
    Unforked,
    Unwatch,
    Unwatched,
    Watch,
    encode,
    receive,
)
from deeper_tasks.worker.execution.executors.log_sender import LogSender
from deeper_tasks.worker.execution.executors.signals import HeldSignals, reset_signals
from deeper_tasks.worker.execution.job_log_records import JobRecords
from deeper_tasks.worker.hooks.hook_names import HookNames

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_LOOK_AT_MEMORY = 0.1
"""Seconds between two looks at the memory of children that have a limit."""
_ORPHAN_ROUNDS, _ORPHAN_PAUSE = 500, 0.002


class Zygote:
    """Serves one worker, the process of this id, through its control socket."""

    def __init__(self, control: socket.socket, *, worker: int, logs: socket.socket) -> None:
        # Programs that the application starts must not look like this process to the worker.
        control.set_inheritable(False)
        logs.set_inheritable(False)
        self._logs = logs
        self._control = control
        self._worker = worker
        self._hooks: HookNames | None = None
        self._children: set[int] = set()
        self._helpers: set[int] = set()
        self._limits: dict[int, int] = {}
        self._over_limit: set[int] = set()
        self._look_at = 0.0
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the worker is gone."""
        reset_signals()
        # Only the worker decides when this process ends; a service manager may signal all processes of a service.
        self._signals = HeldSignals(signal.SIGINT, signal.SIGTERM)
        _hear_of_parent()
        setup, _ = receive(self._control)
        try:
            self._serve(setup)
        finally:
            for pid in self._children:
                _kill_group(pid)
            self._children.clear()
            self._kill_orphans()

    def _serve(self, setup: Frame | None) -> None:
        if isinstance(setup, Setup):
            self._hooks = setup.hooks
            sender = LogSender(self._logs, levels=setup.log_levels, disabled=setup.logs_disabled)
            logging.getLogger().addHandler(sender)
            # The worker writes the records that are sent, if its own logger is enabled.
            keep_enabled()
            if setup.logs_warnings:
                log_warnings()
            error = self._import(setup)
            sender.take_part()
            if setup.redactor is not None:
                # After the import, because the application may have set its own factory of records.
                self._records = JobRecords(setup.redactor.find()).__enter__()
            # Processes that the application's import started belong to the application, not to a job.
            self._helpers = children_of(os.getpid())
            _adopt_orphans()
            self._send(Ready(error=error))
            self._signals.hold(signal.SIGCHLD)
            signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
            while self._serve_once():
                pass

    def _import(self, setup: Setup) -> str | None:
        sys.path[:] = setup.path
        try:
            for module in setup.modules:
                self._send(Busy(doing=f"the import of {module}"))
                importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - whatever a module raises is reported to the worker
            return format_traceback(error)
        return None

    def _serve_once(self) -> bool:
        pause = _LOOK_AT_MEMORY if self._limits else None
        readable, _, _ = select.select([self._control.fileno(), self._wake_reader], [], [], pause)
        if self._wake_reader in readable:
            os.read(self._wake_reader, 4096)
            self._reap()
        if self._limits and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_AT_MEMORY
            self._enforce_limits()
        if os.getppid() != self._worker:
            # A process that was forked from the worker may hold the other end of the socket open.
            return False
        if self._control.fileno() not in readable:
            return True
        frame, descriptors = receive(self._control)
        self._obey(frame, descriptors)
        return frame is not None

    def _obey(self, frame: Frame | None, descriptors: list[int]) -> None:
        match frame:
            case Fork():
                self._fork(descriptors[0])
            case Kill(pid=pid) if pid in self._children:
                _kill_group(pid)
            case Watch(pid=pid, memory_limit=limit) if pid in self._children:
                self._limits[pid] = limit
            case Unwatch(pid=pid) if pid in self._children and pid not in self._over_limit:
                self._limits.pop(pid, None)
                self._send(Unwatched(pid=pid))

    def _enforce_limits(self) -> None:
        for pid, limit in list(self._limits.items()):
            if memory_above(pid, limit) is not None:
                del self._limits[pid]
                self._over_limit.add(pid)
                _kill_group(pid)

    def _fork(self, descriptor: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            # The system has no process or no memory to give; the running children go on.
            os.close(descriptor)
            self._send(Unforked(error=str(error)))
            return
        if pid == 0:
            self._become_child(descriptor)
        os.close(descriptor)
        self._children.add(pid)
        self._send(Forked(pid=pid))

    def _become_child(self, descriptor: int) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            _end_with_parent()
            _adopt_orphans()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._control.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            # Without this, programs that a job starts would inherit a descriptor that came through a socket.
            os.set_inheritable(descriptor, False)
            with socket.socket(fileno=descriptor) as connection:
                child.serve(connection, self._hooks)
            code = 0
        except BaseException as error:  # noqa: BLE001 - nothing may unwind into the zygote's own code
            sys.stderr.write(Redactor()(format_traceback(error)))
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid in list(self._children):
            # WNOWAIT first: while the child is not reaped, its group's number cannot be another's.
            status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if status is None:
                continue
            _kill_group(pid)
            _, raw = os.waitpid(pid, 0)
            self._children.discard(pid)
            self._limits.pop(pid, None)
            is_over_limit = pid in self._over_limit
            self._over_limit.discard(pid)
            self._kill_orphans()
            self._send(Exited(pid=pid, code=os.waitstatus_to_exitcode(raw), is_over_limit=is_over_limit))

    def _kill_orphans(self) -> None:
        """Kill processes that ended children left behind, in any group or session; this is their parent now."""
        for _ in range(_ORPHAN_ROUNDS):
            orphans = children_of(os.getpid()) - self._children - self._helpers
            if not orphans:
                return
            for pid in orphans:
                _kill(pid)
            # The children of an ended process become this one's, so look again.
            time.sleep(_ORPHAN_PAUSE)

    def _send(self, frame: Busy | Ready | Forked | Unforked | Exited | Unwatched) -> None:
        # A worker that is gone is noticed when its side of the socket reads as closed.
        with suppress(OSError):
            self._control.sendall(encode(frame))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    # The child may not have made its group yet.
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _kill(pid: int) -> None:
    """Kill a child and forget it, once it has ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _adopt_orphans() -> None:
    """On Linux, become the parent of processes started from here, directly or not, that have lost their own parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _hear_of_parent() -> None:
    """On Linux, get a signal when the worker ends, or its thread that started this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCHLD)


def _end_with_parent() -> None:
    """On Linux, have the kernel kill this process when the zygote ends, for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    # After a crash of a job's code, stderr then shows the line.
    with suppress(Exception):
        faulthandler.enable()
    with socket.socket(fileno=int(sys.argv[1])) as control, socket.socket(fileno=int(sys.argv[3])) as logs:
        Zygote(control, worker=int(sys.argv[2]), logs=logs).run()
