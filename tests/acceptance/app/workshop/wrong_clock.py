"""A worker on a machine whose wall clock is wrong, by as many seconds as the file `clock` says at each moment."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from workshop.worker import log_as_json, work

_right = time.time_ns


def wrong_by(file: Path) -> Callable[[], int]:
    """Return a clock as `time.time_ns` that is wrong by what the file says."""

    def time_ns() -> int:
        seconds = int(file.read_text()) if file.exists() else 0
        return _right() + seconds * 1_000_000_000

    return time_ns


def set_clock(file: Path, seconds: int) -> None:
    """Make the clocks that go by a file wrong by so many seconds, at once."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)


if __name__ == "__main__":
    time.time_ns = wrong_by(Path("clock").absolute())
    log_as_json()
    asyncio.run(work(sys.argv[1:]))
