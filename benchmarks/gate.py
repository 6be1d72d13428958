"""The gate: a file that workers of other libraries, which know no pause, wait for before they begin."""

from __future__ import annotations

import os
import time
from pathlib import Path

VARIABLE = "BENCHMARK_GATE"
"""The environment variable that tells a worker where its gate is."""

_LOOK = 0.001


class Gate:
    """A gate at `path`, closed until the file is there; each worker that waits leaves a file of its own beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> None:
        """Let all begin."""
        self._path.touch()

    def waiting(self) -> int:
        """Return how many workers have come to it."""
        return len(list(self._path.parent.glob(f"{self._path.name}-*")))


def wait_at_gate() -> None:
    """Hold this process, a worker, until its gate opens."""
    gate = Path(os.environ[VARIABLE])
    gate.with_name(f"{gate.name}-{os.getpid()}").touch()
    while not gate.exists():
        time.sleep(_LOOK)
