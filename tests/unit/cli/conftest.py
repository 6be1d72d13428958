"""What the tests of the command share: an application in a folder of its own, and the command on it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
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
from click.testing import CliRunner

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.cli import main
from deeper_tasks.cli.application import load_manager
from deeper_tasks.cli.rendering import output
from deeper_tasks.integrations.events import JobDiscarded

URL = "sqlite:///tasks.db"

SHOP = """
from deeper_tasks import BackgroundTaskManager, current_job

manager = BackgroundTaskManager("sqlite:///tasks.db", poll_interval_seconds=0.05)
orders = [1, 2, 3]


@manager.task
async def add(a: int, b: int = 0) -> int:
    return a + b


@manager.task(name="post.welcome", queue="emails", tags=["post"])
async def send_welcome(name: str) -> None: ...


@manager.task(max_attempts=1)
async def fail(reason: str) -> None:
    current_job().progress(0.25, "begun")
    raise ValueError(reason)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder with `shop.py` in it, and no settings around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in [name for name in os.environ if name.startswith("DEEPER_TASKS_")]:
        monkeypatch.delenv(variable)
    (tmp_path / "shop.py").write_text(SHOP)
    with BackgroundTaskManager(URL).sync:
        """The store is there: commands that only look make none."""
    modules = set(sys.modules)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:], root.level = handlers, level
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def deeper():
    """Run the command here; returns its result, with `exit_code`, `stdout` and `stderr`."""

    def deeper(*words, typed=None, environment=None):
        result = CliRunner().invoke(main, [str(word) for word in words], input=typed, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return deeper


@pytest.fixture
def at_width(monkeypatch):
    """Have what is drawn from now on drawn for a terminal of so many columns."""
    return lambda columns: monkeypatch.setattr(output, "_PIPED_WIDTH", columns)


@pytest.fixture
def ask(deeper):
    """Run the command with --json on the store; returns its answer."""

    def ask(*words):
        result = deeper(*words, "--url", URL, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return ask


@pytest.fixture
def enqueue(deeper):
    """Enqueue with the application, from the command line; returns the id."""

    def enqueue(*words):
        result = deeper("enqueue", "--app", "shop:manager", *words)
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    return enqueue


@pytest.fixture
def dead(enqueue):
    """Return the id of a job that was run here and discarded."""
    job = enqueue("shop.fail", "\x1b[2J[red]no paper")
    manager = load_manager("shop:manager")

    async def work():
        started = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(manager.run_worker(handle_signals=False, on_start=started.set_result))
        worker = await started
        unsubscribe = manager.subscribe(lambda _: worker.stop(), JobDiscarded)
        await running
        unsubscribe()
        await manager.close()

    asyncio.run(work())
    return job


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
