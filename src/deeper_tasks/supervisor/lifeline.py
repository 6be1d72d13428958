"""The lifeline: a worker process's end of the pipe to its supervisor."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import suppress

from deeper_tasks.lasting import lasting
from deeper_tasks.supervisor.messages import Message, encode

_logger = logging.getLogger("deeper_tasks")

_NAME = "deeper-lifeline"
_MARGIN = 25.0
"""Seconds beyond the grace period after which a stop in order has finished, even without an answer of the store."""


class Lifeline:
    """
    Carries messages to the supervisor, and ends this process if the supervisor has ended.

    This process then stops as after SIGTERM. It kills itself if the stop takes longer than `grace` seconds and a
    margin, because no supervisor is left to do that.
    """

    def __init__(self, descriptor: int) -> None:
        # A process that inherits the descriptor would hide the end of this process from the supervisor.
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._unsent = b""
        self.grace = 0.0
        threading.Thread(target=lasting(self._watch, name=_NAME), name=_NAME, daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message; drop it if the pipe has no room. Safe to call from any thread."""
        with self._lock:
            # A suspended supervisor reads nothing. The rest of a message that was cut off goes before the next one.
            if self._flush():
                self._unsent = encode(message)
                self._flush()

    def _flush(self) -> bool:
        with suppress(OSError):
            while self._unsent:
                sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
        return not self._unsent

    def _watch(self) -> None:
        with suppress(OSError):
            while self._socket.recv(4096):
                pass
        _logger.error("supervisor has ended; this worker process stops in order")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.grace + _MARGIN)
        os.kill(os.getpid(), signal.SIGKILL)
