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
"""Seconds beyond the grace in which a stop in order is over, whatever the store does."""


class Lifeline:
    """
    Carries messages to the supervisor, and ends this process when the supervisor has gone.

    It ends as by SIGTERM: in order. `grace` is how many seconds that may take;
    one that takes longer is killed, for nobody else would.
    """

    def __init__(self, descriptor: int) -> None:
        # Whatever this process starts must not look like this process.
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._unsent = b""
        self.grace = 0.0
        threading.Thread(target=lasting(self._watch, name=_NAME), name=_NAME, daemon=True).start()

    def send(self, message: Message) -> None:
        """Send a message; one for which the pipe has no room is dropped. Safe to call from any thread."""
        with self._lock:
            # A stopped supervisor reads nothing. What was cut off is ended before anything else follows.
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
        _logger.error("the supervisor is gone; this worker process stops in order")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self.grace + _MARGIN)
        os.kill(os.getpid(), signal.SIGKILL)
