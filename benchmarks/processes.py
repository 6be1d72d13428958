"""Child processes: workers started as their users start them, and what the kernel says that they used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 20.0


class Child:
    """A process of our own, measured from outside."""

    def __init__(self, arguments: Sequence[str], *, folder: Path, environment: dict[str, str], python: str) -> None:
        self._process = subprocess.Popen(
            [python, *arguments],
            cwd=folder,
            env=environment_of_child(environment),
            stdin=subprocess.DEVNULL,
        )

    def check(self) -> None:
        """Raise RuntimeError if the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"a worker ended by itself, with status {self._process.returncode}")

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far."""
        # The kernel's clock of another process: its number is made of the pid, as clock_getcpuclockid(3) makes it.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def peak_bytes(self) -> int:
        """Return the most memory that it ever had resident."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell the peak of resident memory")

    def stop(self) -> None:
        """Ask it to end, and make it end if it does not."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment_of_child(changes: dict[str, str]) -> dict[str, str]:
    """Return the environment of a child process, which finds the benchmarks to import."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **changes}


@contextmanager
def children(
    count: int,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: dict[str, str],
    python: str = sys.executable,
) -> Iterator[list[Child]]:
    """Run so many processes within the block."""
    started: list[Child] = []
    try:
        # Extended one by one: should the second fail to start, the first is stopped all the same.
        started.extend(Child(arguments, folder=folder, environment=environment, python=python) for _ in range(count))
        yield started
    finally:
        for child in started:
            child.stop()
