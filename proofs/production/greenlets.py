"""A program whose threads are greenlets: `python -m proofs.production.greenlets gevent|eventlet before|after`."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_CALLS = 10


def _patch(library: str) -> None:
    if library == "gevent":
        import_module("gevent.monkey").patch_all()
    else:
        import_module("eventlet").monkey_patch()


def _refusal(manager: Any) -> str:
    from deeper_tasks.errors import UnsupportedError

    try:
        asyncio.run(manager.run_worker())
    except UnsupportedError as error:
        return str(error)
    return ""


def _count_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main(library: str, order: str) -> None:
    """Enqueue and wait from greenlets while another goes on and a worker runs beside, then use asyncio and Django."""
    if order == "before":
        _patch(library)
    from proofs.production.app import manager, nap

    if order == "after":
        _patch(library)
    greenlets = import_module(library)
    ticks: list[None] = []

    def tick() -> None:
        while True:
            ticks.append(None)
            greenlets.sleep(0.001)

    def call() -> None:
        manager.sync.result(nap.sync.enqueue())

    greenlets.spawn(tick)
    calls = [greenlets.spawn(call) for _ in range(_CALLS)]
    for each in calls:
        each.get() if library == "gevent" else each.wait()
    before, were_open = len(ticks), _count_open()
    manager.sync.result(nap.sync.enqueue(0.5))
    assert len(ticks) > before + _CALLS, "the other greenlet stood still"
    for _ in range(_CALLS):
        nap.sync.enqueue()
    assert _count_open() < were_open + _CALLS, "descriptors were left open"
    assert asyncio.run(asyncio.sleep(0, 1)) == 1
    assert import_module("django.utils.asyncio").async_unsafe(lambda: 1)() == 1
    assert library in _refusal(manager)
    manager.sync.close()
    sys.stdout.write("all is well\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
