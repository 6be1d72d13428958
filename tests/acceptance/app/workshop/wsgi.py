"""A web application for servers that fork after they have loaded it: it enqueues at its import and in each request."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from deeper_tasks import BackgroundTaskManager
from workshop.tasks import nap

manager = BackgroundTaskManager.from_settings()


def _enqueue() -> str:
    return str(manager.sync.enqueue_task(nap))


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer each request with the id of a job that was made for it, and the process that made it."""
    job = _enqueue()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{job} {os.getpid()}".encode()]


print("imported", _enqueue(), file=sys.stderr, flush=True)  # noqa: T201 - for the test to read
