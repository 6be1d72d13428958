"""Kills of workers and of their supervisor lose no job. `make soak` does the same with 10,000."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS, WORKER_KILLS, SUPERVISOR_KILLS = 600, 3, 1

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def report():
    command = [sys.executable, "-m", "proofs", "soak", "--json", "--seed", "1", "--processes", "2"]
    options = {"jobs": JOBS, "worker-kills": WORKER_KILLS, "supervisor-kills": SUPERVISOR_KILLS}
    command += [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


def test_600_jobs_all_end_as_they_were_meant_to_though_workers_and_their_supervisor_are_killed(report):
    assert report["faults"] == []
    assert report["is_proved"]
    assert report["enqueued"] == JOBS


def test_the_kills_fell_while_the_workers_had_jobs_in_hand(report):
    assert report["blows"] == {"worker killed": WORKER_KILLS, "supervisor killed": SUPERVISOR_KILLS}
    assert report["rescued"] > 0


def test_work_of_every_kind_came_to_its_end(report):
    assert set(report["states"]) == {"completed", "failed", "discarded"}
    assert report["refused_as_duplicates"] > 0
    assert report["ticks"] > 0
