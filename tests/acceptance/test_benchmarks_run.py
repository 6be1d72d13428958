"""The benchmarks run from end to end. No time is asserted: a slow machine is no fault of the code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    "enqueue one by one, async",
    "enqueue one by one, blocking",
    "enqueue in bulk",
    "drain, one worker process",
    "drain, two worker processes",
    "CPU a job, one worker process",
    "CPU a job, two worker processes",
    "enqueue to start, p50",
    "enqueue to start, p99",
    "enqueue to start, max",
    "peak memory of a worker",
}
FIGURES_OF_POSTGRES = FIGURES | {
    "WAL a job, enqueue in bulk",
    "WAL a job, drain",
    "page images in the WAL of a drain",
    "dead tuples a job",
    "dead tuples a job, in indexes too",
}

pytestmark = pytest.mark.timeout(240)


def test_a_quick_run_measures_every_figure_of_the_engine_and_the_drain_of_all_competitors(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--jobs", "200", "--json", "--store-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0, run.stderr
    rows = {row["figure"]: row for row in json.loads(run.stdout)["rows"]}
    assert set(rows) == FIGURES
    assert all(row["values"]["deeper_tasks"]["median"] > 0 for row in rows.values())
    drain = rows["drain, one worker process"]
    assert set(drain["values"]) == {"raw", "deeper_tasks", "huey", "huey_fsync_off"}
    assert set(drain["targets"]) == {"≥ 0.2 of raw"}
    assert drain["targets"]["≥ 0.2 of raw"] in {True, False}


def test_a_quick_run_on_a_given_postgresql_measures_the_engine_and_its_peers(postgres):
    small = ["--postgres", postgres.url, "--quick", "--jobs", "50", "--without", "oban", "--json"]
    command = [sys.executable, "-m", "benchmarks", *small]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    rows = {row["figure"]: row for row in report["rows"]}
    assert set(rows) == FIGURES_OF_POSTGRES
    may_be_none = "page images in the WAL of a drain"
    assert all(row["values"]["deeper_tasks"]["median"] > 0 for name, row in rows.items() if name != may_be_none)
    drain = rows["drain, one worker process"]
    assert set(drain["values"]) == {"raw", "deeper_tasks", "pgqueuer", "procrastinate"}
    assert set(drain["targets"]) == {"≥ 0.5 of raw", "≥ 1.5 of the fastest peer"}
    assert rows["dead tuples a job"]["values"]["raw"]["median"] == 2
    assert "fsync off" in report["notes"][0]


def test_a_run_on_postgresql_starts_a_durable_server_where_none_is_given():
    left_out = [f"--without={who}" for who in ("pgqueuer", "procrastinate", "oban")]
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--store",
        "postgres",
        "--quick",
        "--jobs",
        "20",
        "--json",
        *left_out,
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert "fsync on, synchronous_commit on, full_page_writes on" in report["notes"][0]
    drain = next(row for row in report["rows"] if row["figure"] == "drain, one worker process")
    assert set(drain["values"]) == {"raw", "deeper_tasks"}
    assert drain["targets"]["≥ 1.5 of the fastest peer"] is None


def test_a_server_that_does_not_answer_is_named_without_its_password():
    command = [sys.executable, "-m", "benchmarks", "--postgres", "postgresql://me:secret@127.0.0.1:1/postgres"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 1
    assert "Error: no PostgreSQL answers at" in run.stderr
    assert "secret" not in run.stderr


def test_a_python_without_oban_is_refused():
    command = [sys.executable, "-m", "benchmarks", "--store", "postgres", "--oban-python", "/no/such/python", "--quick"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 1
    assert "'/no/such/python' is no Python in which oban is installed" in run.stderr


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_an_aged_store_is_measured_beside_a_young_one(store, tmp_path, request):
    where = ["--postgres", request.getfixturevalue("postgres").url] if store == "postgres" else []
    aged = ["aged", *where, "--jobs", "2000", "--scheduled", "1000", "--drained", "200", "--rounds", "1"]
    command = [sys.executable, "-m", "benchmarks", *aged, "--json", "--store-dir", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert run.returncode == 0, run.stderr
    rows = {row["figure"]: row for row in json.loads(run.stdout)["rows"]}
    assert {"drain", "claim and settle", "statistics", "get", "promote a batch", "prune a batch"} <= rows.keys()
    assert {f"list dead letters, by {key}" for key in ("inserted_at", "scheduled_at", "finished_at")} <= rows.keys()
    assert all(row["aged"] > 0 for row in rows.values())
    assert list(tmp_path.iterdir()) == []


def test_the_anatomy_of_a_job_clocks_its_parts(tmp_path):
    anatomy = ["anatomy", "--jobs", "5000", "--json", "--store-dir", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks", *anatomy]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)
    assert run.returncode == 0, run.stderr
    shares = json.loads(run.stdout)["microseconds"]
    assert set(shares) == {"a worker as a whole", "the event loop", "the store"}
    for share in shares.values():
        assert all(micros > 0 for micros in share.values())
