"""A PgBouncer in front of a PostgreSQL: a pool of connections, each of which a client has for one transaction."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from servers.lifeline import Lifeline
from servers.ports import HOST, address_of, at_port, free_port
from servers.waiting import PATIENCE, wait_for

_SETTINGS = {
    "pool_mode": "transaction",
    "default_pool_size": "20",
    "max_client_conn": "500",
    "unix_socket_dir": "",
    # Who may connect is the business of the PostgreSQL behind; `any` needs the user of the pool below.
    "auth_type": "any",
}
_UP = "process up"


def pgbouncer_program() -> str | None:
    """Where PgBouncer's program is, if it is installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


class PgBouncer:
    """
    Pools the connections to the server of a PostgreSQL URL; `url` is that same URL, by way of the pool.

    `settings` are PgBouncer's own, on top of transaction pooling. What it says is in `log`.
    """

    def __init__(self, url: str, *, settings: Mapping[str, str] | None = None) -> None:
        self._lifeline = Lifeline()
        self._log = self._lifeline.folder / "log"
        self._settings = _SETTINGS | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        try:
            wait_for(lambda: self._try_a_port(url), "PgBouncer on a free port")
        except BaseException:
            self.close()
            raise

    @property
    def log(self) -> str:
        """What the pooler has said so far."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """Stop the pooler, breaking off its connections, and remove all that it made; may be called twice."""
        self.stop()
        self._lifeline.close()

    def stop(self) -> None:
        """Kill the pooler, which breaks its connections off."""
        if self._process is not None:
            self._process.kill()
            self._lifeline.wait(self._process, seconds=PATIENCE)
            self._process = None

    def start(self) -> None:
        """Start the pooler again, on the port it had, and return when it accepts connections."""
        before = self.log.count(_UP)
        self._process = self._lifeline.start([pgbouncer_program(), self._configuration], log=self._log)
        wait_for(lambda: self.log.count(_UP) > before, "PgBouncer that starts again")

    @property
    def _configuration(self) -> Path:
        return self._lifeline.folder / "pgbouncer.ini"

    def _try_a_port(self, url: str) -> bool:
        port = free_port()
        self.url = at_port(url, port)
        self._process = self._lifeline.start([pgbouncer_program(), self._write_configuration(url, port)], log=self._log)
        wait_for(lambda: _UP in self.log or self._process.poll() is not None, "PgBouncer that is up")
        if self._process.poll() is None:
            return True
        self.stop()
        if "Address already in use" in self.log:
            return False
        raise RuntimeError(f"PgBouncer did not start: {self.log}")

    def _write_configuration(self, url: str, port: int) -> Path:
        host, server_port = address_of(url)
        user = conninfo_to_dict(url)
        server = {"host": host, "port": server_port, "user": user["user"], "password": user.get("password", "")}
        settings = self._settings | {"listen_addr": HOST, "listen_port": str(port)}
        lines = [
            "[databases]",
            "* = " + " ".join(f"{name}={_quoted(value)}" for name, value in server.items() if value),
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        file = self._configuration
        file.write_text("\n".join(lines))
        file.chmod(0o644)  # for the user that it runs as; nobody else may enter the folder
        return file


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
