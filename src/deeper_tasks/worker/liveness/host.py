"""The host: describes this process as a node, and judges whether other processes of the machine still live."""

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
from deeper_tasks.worker.liveness.process_scope import has_certainly_ended, scope_of_this_process, start_time

_CHILD_OF = "DEEPER_CHILD_OF"


def describe_node(
    name: str, queues: dict[str, int], *, queue_capacity: int | None = None, may_be_judged: bool = True
) -> Node:
    """
    Return a new node for this process. Its id is never used twice.

    If `may_be_judged` is False, other workers judge the node by its beats alone, and never by its process.
    """
    return Node(
        id=NodeId(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"),
        name=name,
        host=socket.gethostname(),
        scope=scope_of_this_process() if may_be_judged else "",
        pid=os.getpid(),
        pid_started=_own_start(),
        queues=queues,
        queue_capacity=queue_capacity,
    )


def is_known_dead(node: Node) -> bool:
    """
    Whether the node's process is certain to have ended.

    Only a process of this machine and of this process's scope can be judged. While
    processes that it started still run, and may run its jobs, it does not count as dead.
    """
    if not node.scope or node.host != socket.gethostname() or not has_certainly_ended(node.pid, node.pid_started):
        return False
    # Asked last, because it costs ten times as much and nearly all nodes live.
    return node.scope == scope_of_this_process() and not _has_children_left(node.pid, node.pid_started)


def is_alive(record: NodeRecord, *, now: datetime, lease: timedelta) -> bool:
    """
    Whether a node may still work: at `now`, by the store's clock, its beat is no older than a lease.

    It does not if it was taken for dead, or if its process is certain to have ended.
    """
    return not record.is_lost and now - record.beat_at <= lease and not is_known_dead(record.node)


def _clock_since_boot() -> Callable[[], float]:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic if clock is None else partial(time.clock_gettime, clock)


since_boot = _clock_since_boot()
"""Return seconds that never step back. They pass while the machine is suspended too, if the system has such a clock."""


def child_mark() -> dict[str, str]:
    """Return the environment variable by which other workers recognize the processes that this one starts."""
    return {_CHILD_OF: _mark(os.getpid(), _own_start())}


def _mark(pid: int, started: str) -> str:
    return f"{pid}:{started}"


def _has_children_left(pid: int, started: str) -> bool:
    wanted = f"{_CHILD_OF}={_mark(pid, started)}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        # The process may have ended meanwhile, or belong to another user.
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                return True
    return False


def _own_start() -> str:
    """Return when this process started; empty if /proc does not say."""
    with suppress(OSError):
        return start_time(os.getpid())
    return ""
