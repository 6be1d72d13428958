"""Huey's side: its tasks, and the instance that `huey_consumer` loads; the environment names the file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from huey import SqliteHuey  # type: ignore[import-untyped]

from benchmarks.gate import wait_at_gate

FILE, FSYNC = "BENCHMARK_HUEY_FILE", "BENCHMARK_HUEY_FSYNC"


def noop(user_id: int, name: str) -> None:
    """Do nothing."""


def start_time() -> int:
    """Return when it started, in nanoseconds of the machine's clock."""
    return time.time_ns()


def make_huey(path: str, *, is_fsync_off: bool) -> tuple[SqliteHuey, Callable[..., Any], Callable[..., Any]]:
    """Return an instance and its two tasks."""
    # Without the argument SQLite's own default counts, which is FULL.
    options: dict[str, Any] = {"fsync": False} if is_fsync_off else {}
    huey = SqliteHuey("benchmark", filename=path, **options)
    return huey, huey.task()(noop), huey.task()(start_time)


if FILE in os.environ:
    app = make_huey(os.environ[FILE], is_fsync_off=os.environ[FSYNC] == "off")[0]
    app.on_startup("gate")(wait_at_gate)
