"""`deeper health`, and the monitor behind what a worker alone tells."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from deeper_tasks.cli.process.monitor import Monitor


def test_a_fresh_file_is_ready_and_an_old_or_absent_one_is_not(deeper, folder):
    file = folder / "worker.json"
    result = deeper("health", "--file", file)
    assert (result.exit_code, result.stdout.startswith("not ready: ")) == (1, True)
    assert "No such file or directory" in result.stdout
    file.touch()
    result = deeper("health", "--file", file)
    assert (result.exit_code, result.stdout.startswith("ready: ")) == (0, True)
    now = file.stat().st_mtime
    os.utime(file, (now, now - 3600))
    assert deeper("health", "--file", file).exit_code == 1
    result = deeper("health", "--file", file, "--max-age", "2h", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["ready"] is True
    assert 3500 < answer["age_seconds"] < 7200


def test_a_file_of_a_clock_that_was_set_back_since_is_not_ready(deeper, folder):
    file = folder / "worker.json"
    file.touch()
    now = file.stat().st_mtime
    os.utime(file, (now, now + 3600))
    result = deeper("health", "--file", file)
    assert result.exit_code == 1
    assert "written 1 h 0 min ahead of the clock" in result.stdout or "written 59 min" in result.stdout


def test_an_age_that_is_none_is_refused(deeper, folder):
    result = deeper("health", "--file", folder / "worker.json", "--max-age", "soon")
    assert result.exit_code == 2
    assert "'soon' is not a duration" in result.stderr


class Watched:
    """A worker as the monitor sees it, on a clock of the test."""

    def __init__(self):
        self.now = 100.0
        self.worker = SimpleNamespace(is_ready=False, is_stopping=False, busy=0, on_pulse=self.take)
        self.monitor = Monitor(silence_limit=30, now=lambda: self.now)
        self.monitor.watch(self.worker)

    def take(self, tell):
        self.pulse = tell

    def seen(self):
        health = self.monitor.health()
        return health.live, health.ready, str(health.processes[0].status)


@pytest.fixture
def watched():
    return Watched()


def test_a_worker_that_waits_for_its_store_lives_and_is_starting(watched):
    watched.now += 3600
    assert watched.seen() == (True, False, "starting")


def test_a_worker_is_ready_when_it_says_so_and_its_loop_answers(watched):
    watched.worker.is_ready = True
    watched.pulse(0.0)
    assert watched.seen() == (True, True, "ready")
    watched.pulse(9.0)
    assert watched.seen() == (True, True, "ready")
    watched.pulse(10.0)
    assert watched.seen() == (True, False, "unready")
    assert watched.monitor.health().processes[0].loop_lag_seconds == 10.0


def test_a_worker_that_gives_no_pulse_for_the_limit_does_not_live(watched):
    watched.worker.is_ready = True
    watched.pulse(0.0)
    watched.now += 29
    assert watched.seen()[0]
    watched.now += 1
    assert not watched.seen()[0]


def test_a_worker_that_stops_is_not_ready(watched):
    watched.pulse(0.0)
    watched.worker.is_stopping = True
    assert watched.seen() == (True, False, "stopping")


def test_each_pulse_is_passed_on(watched):
    passed = []
    watched.monitor.on_beat = lambda: passed.append(watched.monitor.report())
    watched.pulse(0.5)
    assert [report.loop_lag for report in passed] == [0.5]
