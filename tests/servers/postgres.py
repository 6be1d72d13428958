"""A PostgreSQL server of the tests' own: started from an installation, restarted, killed, removed without a trace."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from servers.installation import Installation
from servers.lifeline import Lifeline
from servers.ports import HOST, free_port
from servers.server import Server
from servers.waiting import PATIENCE, wait_for

Mode = Literal["fast", "immediate", "kill"]

_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}

_SETTINGS = {
    "max_connections": "200",
    "unix_socket_directories": "",
    # In the data folder, which is removed; a killed server would leave it in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    # Nothing here has to outlive the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # It may lie in memory, once for each test process.
    "max_wal_size": "128MB",
    "min_wal_size": "32MB",
}


class PostgresServer(Server):
    """
    A new server on a free port of this machine, which keeps its port and its data until `close`.

    `settings` are PostgreSQL's own, on top of those that make it fast (fsync off). Its data lies in a new folder
    `within` one that every user may enter, or wherever it is fast.
    """

    def __init__(
        self, installation: Installation, *, settings: Mapping[str, str] | None = None, within: Path | None = None
    ) -> None:
        self.installation = installation
        self._settings = _SETTINGS | dict(settings or {})
        self._lifeline = Lifeline(within=within)
        self._data = self._lifeline.folder / "data"
        self._log = self._lifeline.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._initialise()
            self._start_on_free_port()
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the server's first process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server again, on the port it had, and return when it accepts connections."""
        wait_for(self._try_to_start, "PostgreSQL that starts again")

    def stop(self, mode: Mode = "fast") -> None:
        """
        Stop the server, and return when its first process has ended.

        `fast` breaks the connections off and stops in order; `immediate` is what a crash is to the data; `kill` sends
        SIGKILL to the first process, and the others end when they notice.
        """
        if self.is_running:
            self._process.send_signal(_SIGNALS[mode])
        if self._process is not None:
            self._lifeline.wait(self._process, seconds=PATIENCE)
            self._process = None

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server and start it again."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove all that it made; may be called twice."""
        self.stop("immediate")
        self._remove_shared_memory()
        self._lifeline.close()

    def _initialise(self) -> None:
        initdb = self._lifeline.start(
            [
                *(self.installation.bin / "initdb", "-D", self._data, "--username=postgres", "--auth=trust"),
                *("--no-sync", "--locale=C", "--encoding=UTF8"),
            ],
            log=self._log,
        )
        if self._lifeline.wait(initdb, seconds=PATIENCE):
            raise RuntimeError(f"initdb failed: {self.log}")

    def _start_on_free_port(self) -> None:
        def try_a_port() -> bool:
            port = free_port()
            self.url = f"postgresql://postgres@{HOST}:{port}/postgres"
            self._settings |= {"listen_addresses": HOST, "port": str(port)}
            return self._try_to_start()

        wait_for(try_a_port, "PostgreSQL on a free port")

    def _try_to_start(self) -> bool:
        """Whether it started. It does not while children of one that was killed live on, or on a port that is taken."""
        said = len(self.log)
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        self._process = self._lifeline.start(
            [self.installation.bin / "postgres", "-D", self._data, *settings], log=self._log
        )
        wait_for(lambda: self._is_ready() or not self.is_running, "PostgreSQL that accepts connections")
        if self.is_running:
            return True
        self.stop()
        news = self.log[said:]
        if "still in use" in news or "Address already in use" in news:
            return False
        raise RuntimeError(f"PostgreSQL did not start: {news}")

    def _is_ready(self) -> bool:
        """Whether the server of this process, not one before it, accepts connections, as it writes itself."""
        lines = self._lock_file()
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def _lock_file(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self._data / "postmaster.pid").read_text().splitlines()
        return []

    def _remove_shared_memory(self) -> None:
        """Remove the mark that a killed server leaves in the system's shared memory, and the next start would."""
        lines = self._lock_file()
        if len(lines) > 6 and lines[6].split():
            subprocess.run(["ipcrm", "-m", lines[6].split()[1]], check=False, capture_output=True)
