"""The crew: the processes of a test, and the certainty that none of them outlives it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg

from workshop import journal

_APP = Path(__file__).parents[1]
_LAST_LINES = 30

STORES = ["sqlite", "postgresql"]
"""What `crew` can be parametrised with, for what is to be shown of the engine on either."""

_WRONG_COUNTERS = """
WITH counted AS (
    SELECT queue, state, count FROM deeper.counter WHERE bucket = 0
    UNION ALL
    SELECT queue, before, -count FROM deeper.move WHERE before IS NOT NULL
    UNION ALL
    SELECT queue, after, count FROM deeper.move WHERE after IS NOT NULL
    UNION ALL
    SELECT queue, state, -count(*) FROM deeper.job GROUP BY queue, state
)
SELECT queue, state, sum(count) FROM counted GROUP BY queue, state HAVING sum(count) <> 0
"""


class Member:
    """A process that a test has started. `number` tells it from all others of the test."""

    def __init__(self, process: subprocess.Popen[bytes], *, number: int, log: Path) -> None:
        self.process = process
        self.number = number
        self.log = log
        self.killed_at: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def events(self) -> list[dict[str, Any]]:
        """Return what it has logged so far, a line not in JSON as its message."""
        return [_parsed(line) for line in self.log.read_text().splitlines()]

    def says(self, words: str) -> bool:
        """Whether it has logged a message with these words."""
        return any(words in str(event["message"]) for event in self.events())

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, note when, and wait until it is gone."""
        self.killed_at = time.monotonic()
        self.process.kill()
        self.process.wait()

    def stop(self, *, timeout: float = 30) -> int:
        """End it with SIGTERM; returns its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)


class Crew:
    """
    Starts processes on one database. All they start carries a mark in its environment, by which it is found.

    The database is a file in the folder, or the PostgreSQL at a URL.
    """

    def __init__(self, folder: Path, *, url: str | None = None) -> None:
        self.folder = folder
        self.database = folder / "store" / "tasks.db"
        self.database.parent.mkdir()
        self.url = url or f"sqlite:///{self.database}"
        self._is_file = url is None
        self.journal_path = folder / "journal"
        self.members: list[Member] = []
        self._mark = f"WORKSHOP_MARK={secrets.token_hex(8)}"

    def worker(self, queues: str = "default:4", *modules: str, **settings: object) -> Member:
        """Start a worker, of the manager in a module if one is given."""
        return self.start("workshop.worker", *modules, queues=queues, **settings)

    def start(self, module: str, *arguments: str, is_piped: bool = False, **settings: object) -> Member:
        """Start a module as a program; `settings` are those of a manager. Piped, it can be talked to."""
        number = len(self.members) + 1
        log = self.folder / f"log-{number}"
        settings = {"url": self.url, "include": "workshop.tasks", **settings}
        given = {f"DEEPER_TASKS_{name.upper()}": str(value) for name, value in settings.items()}
        mark, _, value = self._mark.partition("=")
        environment = {
            **os.environ,
            **given,
            mark: value,
            "WORKSHOP_JOURNAL": str(self.journal_path),
            "WORKSHOP_WORKER": str(number),
            # What the test itself imports comes along, or the processes could run another version of it.
            "PYTHONPATH": os.pathsep.join([str(_APP), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE if is_piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_piped else stderr,
                stderr=stderr,
                start_new_session=True,
            )
        member = Member(process, number=number, log=log)
        self.members.append(member)
        return member

    def has_stopped(self, member: Member) -> bool:
        """Stop a process; should it hold a lock of the store, which then nobody could have, let it go on instead."""
        member.send(signal.SIGSTOP)
        os.waitid(os.P_PID, member.pid, os.WSTOPPED)
        if not self._is_file:
            # There the server lets go of them after the timeout.
            return True
        with ExitStack() as locks:
            try:
                for name in ("next", "write"):
                    file = locks.enter_context(self.database.with_name(f"tasks.db-{name}").open("rb"))
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                member.send(signal.SIGCONT)
                return False
        return True

    def check_database(self) -> None:
        """Check that the database is whole; PostgreSQL sees to that, so there that the counters agree with the jobs."""
        if not self._is_file:
            with psycopg.connect(self.url.partition("?")[0]) as session:
                assert session.execute(_WRONG_COUNTERS).fetchall() == []
            return
        connection = sqlite3.connect(self.database)
        try:
            assert [tuple(row) for row in connection.execute("PRAGMA integrity_check")] == [("ok",)]
        finally:
            connection.close()

    def journal(self, event: str | None = None) -> list[journal.Entry]:
        """Return what the tasks have written down, or what of one kind."""
        return [entry for entry in journal.read(self.journal_path) if event in {None, entry.event}]

    def alive(self) -> list[int]:
        """Return the ids of the processes that live, of those started here and of all that these have started."""
        return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and self._is_ours(path)]

    def end(self) -> None:
        """Kill whatever is left, and print the last of each log for a test that failed."""
        while left := self.alive():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for member in self.members:
                member.process.poll()
        for member in self.members:
            member.process.wait()
            for pipe in (member.process.stdin, member.process.stdout):
                if pipe is not None:
                    pipe.close()
            print(f"--- process {member.number} ({member.pid}) ended with {member.process.returncode}")  # noqa: T201
            print("\n".join(member.log.read_text().splitlines()[-_LAST_LINES:]))  # noqa: T201

    def _is_ours(self, process: Path) -> bool:
        try:
            return self._mark.encode() in (process / "environ").read_bytes().split(b"\0") and is_alive(
                int(process.name)
            )
        except OSError:
            return False


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def parent_of(pid: int) -> int:
    """Return the id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _parsed(line: str) -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"message": line}
    return event
