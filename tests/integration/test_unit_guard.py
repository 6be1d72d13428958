"""The guard of the unit tests: none of them starts a process or opens a server, by whatever function."""

import shutil
import subprocess
import sys
from pathlib import Path

GUARD = Path(__file__).parents[1] / "unit" / "conftest.py"

TESTS = """
import asyncio, os, pty, socket, subprocess, pytest

STARTS = {
    "a program": lambda: subprocess.run(["true"], check=True),
    "a shell": lambda: os.system("true"),
    "a spawn": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    "a server": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "an async server": lambda: asyncio.run(asyncio.start_server(print, "127.0.0.1", 0)),
}

def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

@pytest.mark.parametrize("start", [*STARTS.values(), fork], ids=[*STARTS, "a fork"])
def test_of(start):
    start()

def test_with_postgresql(request):
    request.getfixturevalue("postgres")

@pytest.fixture
def program():
    subprocess.run(["true"], check=True)

def test_whose_fixture_starts_a_program(program): ...

def test_of_a_loop(tmp_path):
    asyncio.run(asyncio.sleep(0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hints:
        hints.bind(str(tmp_path / "hints"))
"""


def test_a_unit_test_that_starts_a_process_or_opens_a_server_fails(tmp_path):
    shutil.copy(GUARD, tmp_path)
    (tmp_path / "test_starts.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True, cwd=tmp_path)
    assert "1 failed, 8 passed, 7 errors" in done.stdout, done.stdout
    for event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "socket.bind"):
        assert f"may not start a process or open a server ({event}" in done.stdout
    assert "a unit test has no server" in done.stdout
