"""A program that meets a full disk or a read-only one: prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import BackendUnavailableError
from workshop.tasks import nap

_ROOM = 300_000
_PADDING = "x" * 10_000
_CAPABILITY_VERSION = 0x20080522


async def run_out_of_space(manager: BackgroundTaskManager) -> dict[str, Any]:
    """Enqueue until there is no more space, then get it back, by a word on stdin, and enqueue again."""
    acknowledged = [str(await manager.enqueue_task(nap))]
    # A signal would end the process before SQLite could see the error.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    is_limited = "limit" in sys.argv
    if is_limited:
        resource.setrlimit(resource.RLIMIT_FSIZE, (_ROOM, resource.RLIM_INFINITY))
    errors = []
    while len(errors) < 3:
        try:
            acknowledged.append(str(await manager.enqueue_task(nap, meta={"padding": _PADDING})))
        except BackendUnavailableError as error:
            errors.append(str(error))
    os.write(sys.stdout.fileno(), b"full\n")
    sys.stdin.readline()
    if is_limited:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    before = len(acknowledged)
    acknowledged += [str(each) for each in await manager.enqueue_many([nap.call()] * 10)]
    acknowledged.append(str(await manager.enqueue_task(nap, meta={"padding": _PADDING})))
    return {"acknowledged": acknowledged, "before": before, "errors": errors}


async def use_without_rights(manager: BackgroundTaskManager) -> dict[str, Any]:
    """Try to enqueue, twice, as somebody whom the permissions of files bind."""
    errors = []
    for _ in range(2):
        try:
            await manager.enqueue_task(nap)
        except BackendUnavailableError as error:
            errors.append(str(error))
    return {"errors": errors}


def _give_up_capabilities() -> None:
    """Permissions do not bind root: drop what makes it so, and stay the same user."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def main() -> None:
    """Do what the first argument says."""
    manager = BackgroundTaskManager.from_settings()
    if sys.argv[1] == "space":
        seen = asyncio.run(run_out_of_space(manager))
    else:
        _give_up_capabilities()
        seen = asyncio.run(use_without_rights(manager))
    print(json.dumps(seen))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
