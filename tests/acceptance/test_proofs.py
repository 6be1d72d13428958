"""`make proofs` runs the proofs one after another and sums up; here those that can be made short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGES = 12
SHORT = {
    "PROOFS_CRON_CHANGES": str(CHANGES),
    "PROOFS_CRON_FIRST": "2010",
    "PROOFS_CRON_LAST": "2013",
    "PROOFS_CRON_SEED": "1",
    "PROOFS_CRON_PROCESSES": "1",
}


def run(*proofs, **environment):
    return subprocess.run(
        [sys.executable, "-m", "proofs", "all", *proofs],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.timeout(120)
def test_five_and_six_fields_are_due_as_a_walk_through_the_time_finds_around_changes_of_clocks():
    done = run("cron", **SHORT)
    assert f"seed 1: {CHANGES} changes of clocks" in done.stdout, done.stderr
    assert "0 differ." in done.stdout
    assert done.returncode == 0
    assert done.stdout.split()[-3::2] == ["cron", "proved"]


def test_a_proof_that_fails_is_told_in_the_summary_and_by_the_exit_code():
    done = run("cron", **{**SHORT, "PROOFS_CRON_FIRST": "2009", "PROOFS_CRON_LAST": "2008"})
    assert "cron" in done.stdout
    assert done.stdout.rstrip().endswith("failed, exit code 1")
    assert done.returncode == 1


def test_a_series_that_is_ended_ends_its_proof_too():
    series = subprocess.Popen(
        [sys.executable, "-m", "proofs", "all", "cron"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert series.stdout is not None
    while series.stdout.readline().strip() != "cron":
        assert series.poll() is None
    series.terminate()
    # The proof has this pipe too: it ends only when no process is left.
    series.communicate(timeout=60)
    assert series.returncode == 1


def test_the_series_knows_every_proof():
    refused = run("nonsense").stderr
    assert all(repr(name) in refused for name in ("cron", "power-cuts", "soak", "outage", "production", "memory"))
