"""`deeper demo`, as somebody runs it who has just installed the package."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)

COMMAND = [sys.executable, "-m", "deeper_tasks.cli"]


@pytest.fixture
def temporary():
    """The folder of temporary files: short, so that the worker's socket has room beside the database."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def run(*words, cwd, temporary):
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=100
    )


def test_it_shows_every_kind_of_end_and_leaves_nothing_behind(tmp_path, temporary):
    done = run("demo", "--json", cwd=tmp_path, temporary=temporary)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    ends = {(job["task"], job["status"]): job for job in answer["jobs"]}
    assert answer["is_good"] is True
    assert ends["demo.ask_weather", "completed"]["attempts"] == 3
    assert ends["demo.charge_card", "discarded"]["last_error"] == "PermissionError: the card 4711 has expired"
    for task in ("demo.send_mail", "demo.build_report", "demo.count_primes", "demo.remind", "demo.tick"):
        assert (task, "completed") in ends
    assert answer["url"] is None
    assert answer["commands"][0] == "deeper demo --keep demo.db"
    assert list(tmp_path.iterdir()) == list(temporary.iterdir()) == []


def test_the_commands_that_it_names_work_on_the_file_that_it_kept(tmp_path, temporary):
    done = run("demo", "--keep", "my demo.db", cwd=tmp_path, temporary=temporary)
    assert done.returncode == 0, done.stderr
    assert "1 discarded" in done.stdout
    commands = [line.strip() for line in done.stdout.partition("try next:\n")[2].splitlines()]
    looking = [command for command in commands if " worker " not in command]
    assert len(looking) == len(commands) - 1
    for command in looking:
        shell = command.replace("deeper", f"{sys.executable} -m deeper_tasks.cli", 1)
        tried = subprocess.run(
            ["/bin/sh", "-c", shell], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=100
        )
        assert tried.returncode == 0, f"{command}: {tried.stdout}{tried.stderr}"
    again = run("demo", "--keep", "my demo.db", cwd=tmp_path, temporary=temporary)
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_ends_cleanly(tmp_path, temporary, *, number):
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    with process:
        process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
    assert (process.returncode, errors.strip()) == (130, "deeper: interrupted")
    assert list(temporary.iterdir()) == []
