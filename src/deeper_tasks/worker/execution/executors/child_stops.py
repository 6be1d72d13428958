"""The stops of a job in a child process, which the worker sends through the socket."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from msgspec import field

from deeper_tasks.domain.stop import foremost
from deeper_tasks.tasks import StopSignals
from deeper_tasks.worker.execution.executors.frames import StopNotice, receive


class ChildStops(StopSignals, eq=False):
    """
    The stops of the job that runs here, read from the socket whenever its handler asks for them.

    So no thread has to wait for them. If a handler never asks, they are skipped before the next job.
    `has_begun` says that the handler was called.
    """

    connection: socket.socket
    has_begun: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Note that the handler is called now."""
        self.now, self.started = time.monotonic, time.monotonic()
        self.has_begun = True

    def refresh(self) -> None:
        """Read the stops that the worker has sent since. Never waits."""
        # Handlers may ask from several threads, and only one may read a frame.
        with self.lock, suppress(OSError):
            while self._has_more():
                frame, _ = receive(self.connection)
                if not isinstance(frame, StopNotice):
                    return
                if foremost((*self.announced, frame.stop)) is frame.stop:
                    self.reason = frame.reason
                self.announced |= {frame.stop}

    def _has_more(self) -> bool:
        try:
            # No byte means that the connection has ended: the worker is gone, and this process ends soon.
            return bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
