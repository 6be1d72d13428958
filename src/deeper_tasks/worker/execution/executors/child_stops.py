"""The stops of a job in a child process, as the worker sends them through the socket."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

from msgspec import field

from deeper_tasks.domain.stop import foremost
from deeper_tasks.tasks import StopSignals
from deeper_tasks.worker.execution.executors.frames import Told, receive


class ChildStops(StopSignals, eq=False):
    """
    The stops of the job that runs here, read from the socket whenever its handler asks for them.

    So no thread has to wait for them, and a handler that never asks leaves them to be passed over
    before the next job. `has_begun`: the handler was called.
    """

    connection: socket.socket
    has_begun: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Take note that the handler is called now."""
        self.now, self.started = time.monotonic, time.monotonic()
        self.has_begun = True

    def refresh(self) -> None:
        """Take in what the worker has sent since. Never waits for it."""
        # Handlers may ask from several threads, and a frame has one reader.
        with self.lock, suppress(OSError):
            while self._has_more():
                frame, _ = receive(self.connection)
                if not isinstance(frame, Told):
                    return
                if foremost((*self.told, frame.stop)) is frame.stop:
                    self.reason = frame.reason
                self.told |= {frame.stop}

    def _has_more(self) -> bool:
        try:
            # Nothing is there at the end of the connection: the worker is gone, and this process soon.
            return bool(self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
