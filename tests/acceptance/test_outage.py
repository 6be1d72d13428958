"""A PostgreSQL that fails loses no job, however it fails. `make outage` does the same with 20,000 jobs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS, WORKERS, KILLS = 500, 2, 2
KINDS = {
    "server restarted",
    "server stopped at once",
    "server killed",
    "sessions terminated",
    "connections used up",
    "rows held by an idle transaction",
    "network hung",
    "requests lost their way",
    "replies lost their way",
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outage") / "kept"
    command = [sys.executable, "-m", "proofs", "outage", "--json", "--seed", "1", "--keep", str(folder)]
    options = {"jobs": JOBS, "workers": WORKERS, "slots": 3, "rounds": 1, "worker-kills": KILLS, "seconds": 1}
    command += [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


def test_500_jobs_all_end_as_they_were_meant_to_though_all_that_they_stand_on_fails(report):
    assert report["faults"] == []
    assert report["is_proved"]
    assert report["enqueued"] == JOBS


def test_every_fault_came_and_after_each_jobs_went_on(report):
    assert {recovery["kind"] for recovery in report["recoveries"]} == KINDS
    assert report["kills"] == KILLS


def test_work_of_every_kind_came_to_its_end_on_postgresql_too(report):
    assert set(report["states"]) == {"completed", "failed", "discarded"}
    assert report["ticks"] > 0
