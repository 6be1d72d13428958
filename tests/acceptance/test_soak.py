"""Kills of workers and of their supervisor lose no job. `make soak` does the same with 10,000."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS, WORKER_KILLS, SUPERVISOR_KILLS = 300, 3, 1


@pytest.mark.timeout(300)
def test_all_jobs_end_as_they_were_meant_to_though_workers_and_their_supervisor_are_killed():
    # One test of all: several that share a soak may run in several processes, each of which makes its own.
    command = [sys.executable, "-m", "proofs", "soak", "--json", "--seed", "1", "--processes", "2"]
    options = {"jobs": JOBS, "worker-kills": WORKER_KILLS, "supervisor-kills": SUPERVISOR_KILLS}
    command += [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert run.stdout, run.stderr
    report = json.loads(run.stdout)
    assert report["faults"] == []
    assert report["is_proved"]
    assert report["enqueued"] == JOBS
    # The kills fell while the workers had jobs in hand.
    assert report["blows"] == {"worker killed": WORKER_KILLS, "supervisor killed": SUPERVISOR_KILLS}
    assert report["rescued"] > 0
    # Work of every kind came to its end.
    assert set(report["states"]) == {"completed", "failed", "discarded"}
    assert report["refused_as_duplicates"] > 0
    assert report["ticks"] > 0
