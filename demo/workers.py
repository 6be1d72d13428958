"""The workers: real processes, started, stopped and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from demo.site import Site

QUEUES = {"emails": 4, "media": 1, "sync": 4, "maintenance": 1}

_REPOSITORY = Path(__file__).resolve().parents[1]
_STOP_SECONDS = 60
_HURRY_SECONDS = (0.5, 6.0)
_LOG_LINES = 15


class WorkerProcess:
    """One worker, started as a user would: `deeper worker demo.tasks:manager --queues …`."""

    def __init__(self, number: int, site: Site) -> None:
        self.name = f"worker {number}"
        self.was_killed = False
        self.log = site.folder / f"worker-{number}.log"
        queues = ",".join(f"{queue}:{slots}" for queue, slots in QUEUES.items())
        command = ["-m", "deeper_tasks.cli", "worker", "demo.tasks:manager", "--queues", queues]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "demo.parent_watch", str(os.getpid()), *command],
                cwd=_REPOSITORY,
                env={**os.environ, **site.to_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the demo, which then stops its workers in order.
                process_group=0,
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative by a signal; None: it lives."""
        return self._process.poll()

    @property
    def is_alive(self) -> bool:
        """Whether it lives."""
        return self.exit_code is None

    def runs_as(self, node: str | None) -> bool:
        """Whether a job's node is this process."""
        return node is not None and f"-{self.pid}-" in node

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def kill(self) -> None:
        """End it at once with SIGKILL: it cannot say good-bye."""
        self.was_killed = True
        self._process.kill()
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Send SIGTERM: it finishes what runs. A second one has it give everything back at once."""
        if self.is_alive:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, *, seconds: float) -> bool:
        """Wait for its end; returns whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


class Crew:
    """All workers of the demo, the dead ones too. None outlives it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.members: list[WorkerProcess] = []

    def start(self) -> WorkerProcess:
        """Start one more worker."""
        worker = WorkerProcess(len(self.members) + 1, self._site)
        self.members.append(worker)
        return worker

    def living(self) -> list[WorkerProcess]:
        """Return the workers that live."""
        return [worker for worker in self.members if worker.is_alive]

    def lost(self) -> list[WorkerProcess]:
        """Return the workers that ended by themselves."""
        return [worker for worker in self.members if not worker.is_alive and not worker.was_killed]

    async def stop(self) -> None:
        """Stop all as one should: let them finish what runs."""
        living = self.living()
        for worker in living:
            worker.ask_to_stop()
        await asyncio.gather(*(asyncio.to_thread(worker.wait, seconds=_STOP_SECONDS) for worker in living))

    def end(self) -> None:
        """End whatever still lives, at once and without leaving anything behind."""
        for seconds in _HURRY_SECONDS:
            deadline = time.monotonic() + seconds
            for worker in self.living():
                worker.ask_to_stop()
            for worker in self.living():
                worker.wait(seconds=max(0.0, deadline - time.monotonic()))
        for worker in self.living():
            worker.kill()
