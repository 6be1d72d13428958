"""A child: one worker process of a supervisor."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

from deeper_tasks.domain.durations import readable
from deeper_tasks.health import ProcessStatus
from deeper_tasks.supervisor.messages import Lines, Loaded, Refused, Report
from deeper_tasks.supervisor.silence import Silence

_logger = logging.getLogger("deeper_tasks")

_MARGIN = 25.0
"""Seconds beyond its grace period that a process gets to stop in order, including its stop hooks."""


class Child:
    """
    A started worker process; make it and use it in the supervisor's event loop.

    The command gets `arguments` and the descriptor of the process's end of the pipe. `on_change` is called after each
    message of the process, and after its end.

    Raises:
        OSError: the process cannot be started now.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        arguments: Sequence[str],
        silence_limit: float,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        own_end, child_end = socket.socketpair()
        try:
            with child_end:
                self._process = subprocess.Popen(  # noqa: S603 - the command is this program
                    [*command, *arguments, str(child_end.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[child_end.fileno()],
                    # Without a session of its own, Ctrl-C in a terminal would reach the child twice.
                    start_new_session=True,
                )
        except OSError:
            own_end.close()
            raise
        self.pid = self._process.pid
        self.code: int | None = None
        """The exit code, negative for a signal; None until the supervisor has noticed the end."""
        self.loaded: Loaded | None = None
        self.is_refused = False
        """Whether the store cannot serve the application's tasks."""
        self.report: Report | None = None
        self.is_asked_to_stop = False
        self.was_killed = False
        self._ready_at: float | None = None
        self._kill_at: float | None = None
        self._silence = Silence(silence_limit)
        self._silence_limit = silence_limit
        self._now = now
        self._on_change = on_change
        self._lines = Lines()
        self._socket = own_end
        own_end.setblocking(False)
        asyncio.get_running_loop().add_reader(own_end, self._read)

    @property
    def status(self) -> ProcessStatus:
        """The status of the process by its last report."""
        if self.code is not None:
            return ProcessStatus.DOWN
        if self.is_asked_to_stop or (self.report is not None and self.report.is_stopping):
            return ProcessStatus.STOPPING
        if self.report is None:
            return ProcessStatus.STARTING
        return ProcessStatus.READY if self.report.is_ready else ProcessStatus.UNREADY

    @property
    def worked_for(self) -> float:
        """Seconds since the process was ready for the first time; 0 if it never was."""
        return 0.0 if self._ready_at is None else self._now() - self._ready_at

    def stop(self) -> None:
        """
        Ask the process to stop in order, or, if it was asked before, to stop at once.

        `look` kills it when its grace period and a margin have passed.
        """
        grace = 0.0 if self.is_asked_to_stop or self.loaded is None else self.loaded.grace
        kill_at = self._now() + grace + _MARGIN
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)
        # Two different signals: the system would merge the same signal with one that a busy process has not taken yet.
        number = signal.SIGINT if self.is_asked_to_stop else signal.SIGTERM
        self.is_asked_to_stop = True
        self._process.send_signal(number)

    def look(self) -> None:
        """Kill the process if it gives no sign of life, or does not stop in time. Call it about every second."""
        now = self._now()
        is_silent = self._silence.is_too_long(now)
        if self.code is not None or self.was_killed:
            return
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._kill("did not stop in its grace period")
        elif is_silent:
            self._kill(f"gave no sign of life for {readable(self._silence_limit)}")

    def reap(self) -> None:
        """Take the exit code of the process if it has ended."""
        if self.code is None and self._process.poll() is not None:
            # Its last messages may still be in the pipe.
            self._read()
            self.code = self._process.returncode
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._on_change()

    def _kill(self, reason: str) -> None:
        _logger.error("worker process %d %s and is killed", self.pid, reason, extra={"child_pid": self.pid})
        self.was_killed = True
        self._process.kill()

    def _read(self) -> None:
        try:
            data = self._socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # The pipe is closed, but the process may still live: `reap` notices its end.
            asyncio.get_running_loop().remove_reader(self._socket)
            return
        for message in self._lines.take(data):
            self._note(message)
        self._on_change()

    def _note(self, message: Loaded | Refused | Report) -> None:
        if isinstance(message, Refused):
            self.is_refused = True
            return
        if isinstance(message, Loaded):
            self.loaded = message
            return
        self.report = message
        self._silence.hear(self._now())
        if message.is_ready and self._ready_at is None:
            self._ready_at = self._now()
