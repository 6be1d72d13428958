"""What the tests of the command share whose command runs in a process of its own, with pipes or on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures.cli import *


class Terminal:
    """A program on a terminal of its own, and somebody who reads the screen and presses keys."""

    _PATIENCE = 40.0
    _CONTROL = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()=>][0-9A-Z]?)|[\r\x07]")

    def __init__(self, words, *, columns, lines, environment):
        self._mine, theirs = pty.openpty()
        # Those would come before the size of the terminal.
        inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
        self._size(columns, lines)
        self.raw = ""
        self.process = subprocess.Popen(
            list(map(str, words)),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**inherited, "TERM": "xterm-256color", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call
        )
        os.close(theirs)

    @property
    def text(self):
        """All that was written, without what moves the cursor and colours."""
        return self._CONTROL.sub("", self.raw)

    def press(self, key):
        os.write(self._mine, key)

    def resize(self, columns, lines):
        self._size(columns, lines)

    def read_until(self, said, *, times=1):
        """Read until the screen has said something so many times from now on."""
        start, deadline = len(self.raw), time.monotonic() + self._PATIENCE
        while self._CONTROL.sub("", self.raw[start:]).count(said) < times:
            assert self._read(deadline), f"it ended without saying {said!r}:\n{self.text}"
        return self._CONTROL.sub("", self.raw[start:])

    def press_until(self, key, said):
        """Press a key, and again whenever the bell rings instead, until the screen has said something from now on."""
        start, deadline = len(self.raw), time.monotonic() + self._PATIENCE
        bells = -1
        while said not in self._CONTROL.sub("", self.raw[start:]):
            if self.raw.count("\a", start) > bells:
                bells = self.raw.count("\a", start)
                self.press(key)
            assert self._read(deadline), f"it ended without saying {said!r}:\n{self.text}"

    def wait(self):
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + self._PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(self._PATIENCE)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._mine)

    def _read(self, deadline):
        ready, _, _ = select.select([self._mine], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing more came:\n{self.text}"
        read = b""
        with suppress(OSError):  # Linux says EIO once nobody has the other end open
            read = os.read(self._mine, 65536)
        self.raw += read.decode(errors="replace")
        return bool(read)

    def _size(self, columns, lines):
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@pytest.fixture
def on_terminal(folder):
    """Run the command in a process of its own, on a terminal."""
    terminals = []

    def on_terminal(*words, columns=120, lines=40, **environment):
        words = (sys.executable, "-m", "deeper_tasks.cli", *words)
        terminals.append(Terminal(words, columns=columns, lines=lines, environment=environment))
        return terminals[-1]

    yield on_terminal
    for terminal in terminals:
        terminal.end()


@pytest.fixture
def in_bash(folder):
    """Start a shell that waits for what is typed, on a terminal; `deeper` is this one."""
    terminals = []

    def in_bash():
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        words = ("bash", "--norc", "--noprofile", "-i")
        environment = {"PATH": path, "PS1": "$ ", "HISTFILE": ""}
        terminals.append(Terminal(words, columns=200, lines=40, environment=environment))
        return terminals[-1]

    yield in_bash
    for terminal in terminals:
        terminal.end()


@pytest.fixture
def piped(folder):
    """Run the command in a process of its own, its output in a pipe; killed at the end if it still runs."""
    processes = []

    def piped(*words, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "deeper_tasks.cli", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        processes.append(process)
        return process

    yield piped
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
