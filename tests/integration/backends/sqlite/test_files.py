"""The database file and several processes: forks, several that open it, and users without the right to write."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.schema import known_migrations
from deeper_tasks.testing.conformance.builders import new_job

NOBODY = 65534
KNOWN = [step.name for step in known_migrations()]

OPEN_AS_SOMEBODY_ELSE = f"""
import asyncio, os, sys
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.errors import DeeperTasksError
from deeper_tasks.testing.conformance.builders import new_job
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})

async def main():
    backend = SQLiteBackend(sys.argv[1], timeout=2)
    try:
        await backend.open()
        await backend.insert([new_job()])
    except DeeperTasksError as error:
        print(type(error).__name__, error)
    finally:
        await backend.close()

asyncio.run(main())
"""


async def opened(path):
    backend = SQLiteBackend(path, timeout=5)
    try:
        await backend.open()
    finally:
        await backend.close()


@pytest.fixture
def passable_folder():
    """A folder that somebody else gets to. pytest's own is private, and made so again whenever another run starts."""
    with tempfile.TemporaryDirectory() as outer:
        Path(outer).chmod(0o755)
        folder = Path(outer) / "store"
        folder.mkdir()
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("what", ["the file", "the folder", "all"])
def test_what_cannot_be_written_is_told(passable_folder, program, what):
    path = passable_folder / "tasks.db"
    asyncio.run(opened(path))
    path.parent.chmod(0o755 if what != "the file" else 0o777)
    for part in path.parent.iterdir():
        part.chmod(0o644 if what != "the folder" else 0o666)
    if os.getuid() != 0:
        path.parent.chmod(0o555)
        path.chmod(0o444)
    process = program(OPEN_AS_SOMEBODY_ELSE, path)
    output, _ = process.communicate(timeout=20)
    if what == "the folder" and os.getuid() == 0:
        # The lock files are there already, and the folder is only needed for the journal, which is there no more.
        assert output == "" or "BackendUnavailableError" in output
    else:
        assert output.startswith("BackendUnavailableError")
        assert "cannot be written" in output or "read-only" in output
        assert "tasks.db" in output
    assert process.returncode == 0


def test_several_processes_may_open_a_fresh_file_at_once(path, program, query):
    code = """
import asyncio, sys
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing.conformance.builders import new_job
async def main():
    backend = SQLiteBackend(sys.argv[1], timeout=20)
    sys.stdin.readline()
    await backend.open()
    await backend.insert([new_job()])
    await backend.close()
asyncio.run(main())
"""
    processes = [program(code, path) for _ in range(3)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.wait(20) == 0
    assert query("SELECT count(*) FROM deeper_job") == [(3,)]
    assert query("SELECT count(*) FROM deeper_migration") == [(len(KNOWN),)]


FORK = """
import asyncio, os, sys, warnings
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing.conformance.builders import new_job
backend = SQLiteBackend(sys.argv[1], timeout=10)
async def start():
    await backend.open()
    await backend.insert([new_job()])
async def work():
    await backend.insert([new_job() for _ in range(3)])
    return (await backend.find(JobQuery())).total
asyncio.run(start())
writer = backend._threads._writer
pid = os.fork()
if pid == 0:
    code = 1
    try:
        total = asyncio.run(work())
        assert total == 4, total
        assert backend._threads._writer is not writer
        asyncio.run(backend.close())
        code = 0
    finally:
        os._exit(code)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert backend._threads._writer is writer
assert asyncio.run(work()) == 7
asyncio.run(backend.close())
"""


def test_after_a_fork_the_child_opens_its_own_connections_and_the_parent_keeps_its(path, program, query):
    process = program(FORK, path)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert query("PRAGMA integrity_check") == [("ok",)]
    assert query("SELECT count(*) FROM deeper_job") == [(7,)]


def remove(path):
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()


async def test_who_lets_go_of_a_file_that_was_replaced_leaves_the_log_of_the_new_one(backend, path, program, query):
    await backend.insert([new_job()])
    remove(path)
    process = program(
        """
import asyncio, sys
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.testing.conformance.builders import new_job

async def main():
    backend = SQLiteBackend(sys.argv[1])
    await backend.open()
    await backend.insert([new_job() for _ in range(5)])
    print("there", flush=True)
    sys.stdin.readline()

asyncio.run(main())
""",
        path,
    )
    assert process.stdout.readline() == "there\n"
    await backend.close()
    process.kill()
    process.wait()
    assert query("SELECT count(*) FROM deeper_job") == [(5,)]
