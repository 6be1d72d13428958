"""The host: who this process is, and whether another process of this machine still lives."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from deeper_tasks.backends.protocol import Node, NodeRecord
from deeper_tasks.domain.ids import NodeId

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_TIME_FIELD = 22
_ENDED = frozenset("ZXx")
_CHILD_OF = "DEEPER_CHILD_OF"


def describe_node(name: str, queues: dict[str, int], *, queue_capacity: int | None = None) -> Node:
    """Return a new node for this process; its id is never used twice."""
    return Node(
        id=NodeId(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"),
        name=name,
        host=socket.gethostname(),
        boot=_boot(),
        pid=os.getpid(),
        pid_started=_process_start(os.getpid()) or "",
        queues=queues,
        queue_capacity=queue_capacity,
    )


def is_known_dead(node: Node) -> bool:
    """
    Whether the node's process is certain to have ended.

    Only a process of this machine, boot and pid namespace can be judged, and
    only where /proc tells. A zombie counts as ended: it runs nothing any more.
    While processes that it started still end, and may run its jobs, it is not dead.
    """
    if not node.boot or node.host != socket.gethostname() or node.boot != _boot():
        return False
    if _process_start(node.pid) == node.pid_started:
        return False
    return not _has_children_left(node.pid, node.pid_started)


def is_alive(record: NodeRecord, *, now: datetime, lease: timedelta) -> bool:
    """
    Whether a node may still work: its beat is no older than a lease at `now`, by the store's clock.

    Not so if it was taken for dead, or if its process is certain to have ended.
    """
    return not record.is_lost and now - record.beat_at <= lease and not is_known_dead(record.node)


def _clock_since_boot() -> Callable[[], float]:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if clock is None else partial(time.clock_gettime, clock)


since_boot = _clock_since_boot()
"""Return seconds that never step back, and pass while the machine is suspended too where it can tell."""


def child_mark() -> dict[str, str]:
    """Return what goes into the environment of the processes that this one starts, so that others can tell."""
    return {_CHILD_OF: _mark(os.getpid(), _process_start(os.getpid()) or "")}


def _mark(pid: int, started: str) -> str:
    return f"{pid}:{started}"


def _has_children_left(pid: int, started: str) -> bool:
    wanted = f"{_CHILD_OF}={_mark(pid, started)}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        # One that ended meanwhile, or is somebody else's.
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                return True
    return False


def _boot() -> str:
    """What tells this run of this machine, and this container on it, from others; empty where unknown."""
    with suppress(OSError):
        return f"{_BOOT_ID.read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _process_start(pid: int) -> str | None:
    """The start time of a process in the kernel's ticks; None: it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the program's name, is in brackets and may hold spaces and brackets itself.
    fields = status.rpartition(")")[2].split()
    state, start = fields[0], fields[_START_TIME_FIELD - 3]
    return None if state in _ENDED else start
