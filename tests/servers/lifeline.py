"""
A lifeline: the folder and the processes of a server, which end with the test process however that ends.

A guard, a process of its own, holds the other end of a pipe. When this end closes, because the server is no longer
needed or because the test process was killed, it ends what still runs and removes the folder. That works on every
POSIX system. What could outlast the test process is only what it forked without an exec: such a child holds the pipe.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

NOBODY = 65534
"""The user that servers run as when the tests run as root: PostgreSQL and PgBouncer refuse to be root."""

_MEMORY = Path("/dev/shm")
_ROOM = 2**31
"""Bytes that must be free in memory: several test processes have servers at once. Docker gives 64 MB by default."""

_PATIENCE = 20.0
_LOOK = 0.01


class Lifeline:
    """
    Owns a new folder, which its processes may write to, and starts them.

    The folder lies in memory where there is room, for a new database is some 15 MB of writes: on a busy disk it takes
    ten times as long. A folder for programs lies on the disk, since programs in memory may be forbidden to run.
    `within` names another place.
    """

    def __init__(self, *, for_programs: bool = False, within: Path | None = None) -> None:
        place = within or _open_folder(in_memory=not for_programs and _has_room(_MEMORY))
        self.folder = Path(tempfile.mkdtemp(prefix="deeper-server-", dir=place))
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is for the tests
        )

    def start(self, command: list[str | Path], *, log: Path) -> subprocess.Popen[bytes]:
        """Start a process that never runs as root, in a session of its own; what it says is appended to `log`."""
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=_environment(),
                start_new_session=True,
                **user,
            )
        self._tell("+", process)
        return process

    def wait(self, process: subprocess.Popen[bytes], *, seconds: float) -> int:
        """Return the exit code of a process that was started here, when it has ended."""
        code = process.wait(seconds)
        self._tell("-", process)
        return code

    def close(self) -> None:
        """Remove the folder, after the end of the processes; may be called twice."""
        self._guard.communicate(timeout=3 * _PATIENCE)

    def _tell(self, change: str, process: subprocess.Popen[bytes]) -> None:
        self._guard.stdin.write(f"{change}{process.pid}\n")
        self._guard.stdin.flush()


def is_open_to_all(path: Path) -> bool:
    """Whether every user may enter the folder."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _open_folder(*, in_memory: bool) -> Path:
    """The first folder for temporary files that the user of the servers can enter."""
    disks = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]
    places = [_MEMORY, *disks] if in_memory else disks
    return next(place for place in places if os.geteuid() != 0 or is_open_to_all(place))


def _has_room(place: Path) -> bool:
    return os.access(place, os.W_OK) and shutil.disk_usage(place).free >= _ROOM


def _environment() -> dict[str, str]:
    """The environment without what the machine's user has set for PostgreSQL's own programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _guard(folder: str) -> None:
    """Hear of processes until the pipe closes, then end them and remove the folder."""
    running: set[int] = set()
    for line in sys.stdin:
        change, pid = line[0], int(line[1:])
        running = running | {pid} if change == "+" else running - {pid}
    # PostgreSQL takes its children along at SIGQUIT, and leaves no shared memory.
    for number in (signal.SIGQUIT, signal.SIGCONT):
        _signal(running, number)
    deadline = time.monotonic() + _PATIENCE
    while any(map(_is_running, running)) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    _signal(running, signal.SIGKILL)
    while Path(folder).exists() and time.monotonic() < deadline + _PATIENCE:
        shutil.rmtree(folder, ignore_errors=True)


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_running(pid: int) -> bool:
    """Whether the process runs; one that ended but that its parent has not asked after does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


if __name__ == "__main__":
    _guard(sys.argv[1])
