"""Process 1: a worker that is the first process of its container, and what its jobs leave behind there."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from proofs.production.namespaces import PID_NAMESPACE
from proofs.production.needs import NAMESPACES
from proofs.production.site import Process, Site
from proofs.production.situation import Situation

_RUNS = 2
_PROGRAM = "import asyncio; from proofs.production.app import manager; asyncio.run(manager.run_worker())"


def play(site: Site) -> None:
    """Have jobs leave processes behind in a container of each way to start a worker, then stop it."""
    for name, options in (("one-worker", ()), ("supervisor", ("--processes", "2"))):
        worker = site.start_worker(name, *options, within=PID_NAMESPACE)
        _run_jobs(site)
        site.wait_for(lambda: not _zombies(_first(worker)), f"end of the zombies of {name}")  # noqa: B023 - called here
        os.kill(_first(worker), signal.SIGTERM)
        assert worker.wait() == 0, worker.said
    program = site.start("program", [sys.executable, "-c", _PROGRAM], within=PID_NAMESPACE)
    _run_jobs(site)
    assert "this program is process 1 of its container" in program.said, program.said
    os.kill(_first(program), signal.SIGHUP)
    assert program.wait() == 0, program.said


def _run_jobs(site: Site) -> None:
    before = len(site.runs())
    for _ in range(_RUNS):
        site.enqueue("leave_orphan")
        site.enqueue("leave_orphan_and_die")
    site.wait_for(lambda: len([run for run in site.runs()[before:] if run.how]) == 2 * _RUNS, "end of all runs")
    assert {run.how for run in site.runs()} == {"end"}


def _first(process: Process) -> int:
    """Return the id, out here, of process 1 in there."""
    [first] = _children(process.popen.pid)
    return first


def _zombies(pid: int) -> list[int]:
    return [child for child in _children(pid) if _state(child) == "Z"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _state(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return status.rpartition(")")[2].split()[0]


SITUATION = Situation(
    name="process-1",
    plays="a worker is process 1 of a container; what its jobs leave behind there is reaped, or the start says why not",
    needs=(NAMESPACES,),
    play=play,
)
