"""
The fleet: `deeper worker` as a program, with its processes seen from outside.

It is also the application that they run: `workshop.fleet:manager`.
"""

from __future__ import annotations

import http.client
import importlib
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deeper_tasks import BackgroundTaskManager
from workshop import journal
from workshop.crew import Crew, Member

manager = BackgroundTaskManager.from_settings()

_LOOK = 0.005


@manager.task(timeout_seconds=0.1, max_attempts=1)
def ignore_timeout(path: str) -> None:
    """Keep a thread until a file is there, whatever is asked."""
    journal.write("start")
    while not Path(path).exists():
        time.sleep(_LOOK)


@manager.task(max_attempts=1)
def run_on(path: str) -> None:
    """Keep a thread until a file is there, whatever is asked, without a timeout that matters."""
    ignore_timeout(path)


@manager.task
async def answer() -> str:
    """Return what the application `shop` has to say."""
    said: str = importlib.import_module("shop").ANSWER
    return said


class Fleet:
    """A worker command that was started, its log in JSON."""

    def __init__(
        self, crew: Crew, *options: str, application: str = "workshop.fleet:manager", **settings: object
    ) -> None:
        words = ["worker", application, "--json", "--health-port", "0", *options]
        self.member: Member = crew.start("deeper_tasks.cli", *words, queues="default:2", **settings)
        self._banner: dict[str, Any] | None = None

    @property
    def banner(self) -> dict[str, Any] | None:
        """What it said when it had started."""
        # Looked up once: it is asked for at each look of each wait.
        if self._banner is None:
            self._banner = next((event for event in self.member.events() if "worker of" in str(event["message"])), None)
        return self._banner

    @property
    def children(self) -> list[int]:
        """The worker processes that live now."""
        return [process["pid"] for process in self.ask()[1]["processes"] if process["pid"] is not None]

    def ask(self, path: str = "/health") -> tuple[int, dict[str, Any]]:
        """Return the status and the answer of the health server; 0: there is none yet, or no more."""
        banner = self.banner
        if banner is None:
            return 0, {"processes": []}
        address = urlsplit(banner["health"])
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError:
            return 0, {"processes": []}
        finally:
            connection.close()

    def statuses(self) -> list[str]:
        """Return how each process is."""
        return [process["status"] for process in self.ask()[1]["processes"]]

    def is_ready(self) -> bool:
        """Whether all of it is."""
        return self.ask()[1].get("status") == "ok"
