"""The demo, whatever way it ends: `make demo` itself runs it to its good end."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder():
    # Short: beside a database with a long path there is no room for its workers' sockets, which then lie elsewhere.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_with(mark):
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def read_until(demo, mark):
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if mark in line:
            return
    pytest.fail(f"the demo ended before it said {mark!r}:\n{''.join(lines)}")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["worker processes", "SIGKILL"])
def test_an_interrupted_demo_leaves_no_process_and_no_file_behind(folder, number, moment):
    with start(TMPDIR=str(folder)) as demo:
        read_until(demo, moment)
        demo.send_signal(number)
        said, _ = demo.communicate(timeout=100)
    assert demo.returncode == 130, said
    assert processes_with(str(folder)) == []
    assert list(folder.iterdir()) == []


def test_a_folder_with_files_in_it_is_not_used(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with start("--keep", str(tmp_path)) as demo:
        said, _ = demo.communicate(timeout=100)
    assert demo.returncode == 2
    assert "is not empty" in said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
