"""A WSGI application of a site, which enqueues for each request. With USED it has used its manager before any fork."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from proofs.production.app import manager, nap

USED = "PRODUCTION_USED"

if USED in os.environ:
    nap.sync.enqueue()
    manager.sync.list_tasks()


def application(_: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Enqueue a job, and answer with its id, its state, and the process that did it."""
    job = nap.sync.enqueue()
    answer = {"pid": os.getpid(), "job": str(job), "status": manager.sync.get_task_status(job).status}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
