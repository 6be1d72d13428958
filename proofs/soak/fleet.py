"""The fleet: a supervisor with its worker processes, and the producers, all started here and seen from outside."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from proofs.soak.app import TICKS, WORK
from proofs.soak.journal import ACKNOWLEDGED, JOURNAL, under_way

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 60.0
_LOCKS = ("tasks.db-next", "tasks.db-write")
_TICKS_AT_ONCE = 1


class Fleet:
    """
    Processes on one database. All that they start carries a mark in its environment, by which it is found.

    The database is a file in the folder, or the store at `url`.
    `slots` are the jobs that a worker process runs at once; `settings` those of a manager.
    """

    def __init__(self, folder: Path, *, processes: int, slots: int, url: str | None = None, **settings: object) -> None:
        self.folder = folder
        self.database = folder / "tasks.db"
        self.url = url or f"sqlite:///{self.database}"
        self.journal = folder / "journal"
        self.acknowledged = folder / "acknowledged"
        self.processes = processes
        self.slots = slots + _TICKS_AT_ONCE
        self._queues = f"{WORK}:{slots},{TICKS}:{_TICKS_AT_ONCE}"
        # The purpose of an attempt is not the question here: kills are never to use up a job's last.
        self._settings = {"url": self.url, "default_max_attempts": 100, **settings}
        self._mark = f"SOAK_MARK={secrets.token_hex(8)}"
        self._started: list[subprocess.Popen[bytes]] = []
        self._producers: list[subprocess.Popen[bytes]] = []
        self.supervisor: subprocess.Popen[bytes] | None = None

    def supervise(self) -> None:
        """Start a supervisor."""
        words = ("worker", "proofs.soak.app:manager", "--processes", str(self.processes), "--queues", self._queues)
        self.supervisor = self._start("deeper_tasks.cli", *words, "--health-port", "0", "--json")

    def produce(self, jobs: int, *, seed: str) -> None:
        """Start a producer of so many jobs."""
        self._producers.append(self._start("proofs.soak.producer", str(jobs), seed))

    def has_produced(self) -> bool:
        """Whether all producers have done their work. Raises RuntimeError for one that failed."""
        codes = [producer.poll() for producer in self._producers]
        if any(codes):
            raise RuntimeError(f"the producers ended with the exit codes {codes}; see the logs in {self.folder}")
        return None not in codes

    def workers(self) -> list[int]:
        """Return the pids of the worker processes that live, orphans of a killed supervisor too, in order."""
        return sorted(pid for pid in self.alive() if b"--child" in _read(pid, "cmdline").split(b"\0"))

    def at_work(self) -> list[int]:
        """Return those of the workers that have a run under way."""
        return sorted(under_way(self.journal).intersection(self.workers()))

    def alive(self) -> list[int]:
        """Return the pids of all that lives of what was started here, and of what that has started."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        mark = self._mark.encode()
        return [pid for pid in pids if mark in _read(pid, "environ").split(b"\0") and _is_alive(pid)]

    def kill_supervisor(self) -> int:
        """End the supervisor with SIGKILL; returns its pid when it is gone."""
        assert self.supervisor is not None
        self.supervisor.kill()
        self.supervisor.wait()
        return self.supervisor.pid

    def has_stopped(self, pid: int) -> bool:
        """Stop a process; if it holds a lock of the store, which no other could get then, let it go on."""
        os.kill(pid, signal.SIGSTOP)
        with ExitStack() as locks:
            try:
                for name in _LOCKS:
                    file = locks.enter_context(self.database.with_name(name).open("rb"))
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.kill(pid, signal.SIGCONT)
                return False
        return True

    def is_whole(self) -> bool:
        """Whether the supervisor says that all its processes are ready, and no others are left."""
        return self._health().get("status") == "ok" and len(self.workers()) == self.processes

    def stop(self) -> int:
        """End the supervisor with SIGTERM; returns its exit code."""
        assert self.supervisor is not None
        self.supervisor.terminate()
        return self.supervisor.wait(_PATIENCE)

    def end(self) -> None:
        """Kill whatever is left."""
        while left := self.alive():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._started:
                process.poll()
        for process in self._started:
            process.wait()

    def said(self) -> Iterator[dict[str, Any]]:
        """Yield what all of them have logged; of each log what is no JSON, a traceback say, as one last message."""
        for path in sorted(self.folder.glob("log-*")):
            others = []
            for line in path.read_text().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    others.append(line)
            if others:
                yield {"message": "\n".join(others), "level": "error"}

    def _health(self) -> dict[str, Any]:
        assert self.supervisor is not None
        for event in self.said():
            # Each supervisor names the address once, and the last is the one that lives.
            if event.get("health") and event.get("pid") == self.supervisor.pid:
                return _ask(event["health"])
        return {}

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        mark, _, value = self._mark.partition("=")
        environment = {
            **os.environ,
            **{f"DEEPER_TASKS_{name.upper()}": str(value) for name, value in self._settings.items()},
            mark: value,
            JOURNAL: str(self.journal),
            ACKNOWLEDGED: str(self.acknowledged),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        with (self.folder / f"log-{len(self._started) + 1:02}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process


def _ask(address: str) -> dict[str, Any]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    try:
        connection.request("GET", "/health")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except OSError:
        return {}
    else:
        return answer
    finally:
        connection.close()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    status = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(status) and status[0] not in {b"Z", b"X"}
