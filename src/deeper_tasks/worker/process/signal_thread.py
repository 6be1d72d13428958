"""The signal thread: takes the signals of this process, also while its event loop is blocked."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Self

from deeper_tasks.lasting import lasting

_NAME = "deeper-signal-thread"


class SignalThread:
    """
    Inside the `with`, calls `on_signal` with its number in a thread of its own for each of these signals.

    The loop, which takes its signals from the same place, gets them as before. To be used in the main thread, which
    must handle the signals already.
    """

    def __init__(self, numbers: Collection[int], *, on_signal: Callable[[int], object]) -> None:
        self._numbers = frozenset(numbers)
        self._on_signal = on_signal
        self._before = -1
        self._thread = threading.Thread(target=lasting(self._run, name=_NAME), name=_NAME, daemon=True)

    def __enter__(self) -> Self:
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        now = signal.set_wakeup_fd(self._before)
        if now != self._writing.fileno():
            # The loop, or the application, has set another descriptor since.
            signal.set_wakeup_fd(now)
        self._writing.close()
        self._thread.join()
        self._reading.close()

    def _run(self) -> None:
        # Other code may have closed the socket.
        with suppress(OSError):
            # A signal is removed only after it was passed on, so that an exception in this thread loses none.
            while heard := self._reading.recv(4096, socket.MSG_PEEK):
                self._pass_on(heard)
                self._reading.recv(len(heard))

    def _pass_on(self, heard: bytes) -> None:
        if self._before != -1:
            # Like the interpreter, it does not wait if there is no room.
            with suppress(OSError):
                os.write(self._before, heard)
        for number in heard:
            if number in self._numbers:
                self._on_signal(number)
