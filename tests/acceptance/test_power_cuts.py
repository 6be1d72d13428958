"""A power cut under the SQLite store loses nothing acknowledged. `make power-cuts` does the same 10,000 times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CUTS = 150

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def report():
    command = [sys.executable, "-m", "proofs", "power-cuts", "--cuts", str(CUTS), "--seed", "1", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    if "hides the functions of its SQLite" in run.stderr:
        pytest.skip(run.stderr)
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def real(report):
    return [row for row in report["rows"] if not row["is_control"]]


def test_after_a_power_cut_the_store_is_whole_and_as_its_last_durable_commit_or_a_later_one_left_it(report, real):
    assert sum(row["cuts"] for row in real) == CUTS
    assert [row["faults"] for row in real] == [[]] * len(real)
    assert report["is_proved"]


def test_the_cuts_fall_where_writes_would_be_lost(real):
    for row in real:
        assert row["losing"] > row["cuts"] / 3


def test_a_disk_that_ignores_syncs_is_noticed_so_the_proof_can_fail(report):
    [control] = [row for row in report["rows"] if row["is_control"]]
    assert control["faulty"] > 0
