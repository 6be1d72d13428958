"""The health of a worker process, or of the processes of one supervisor."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum

from deeper_tasks.domain.view import View


class Status(StrEnum):
    """The status of all worker processes together."""

    OK = "ok"
    DEGRADED = "degraded"
    UNREADY = "unready"
    STOPPING = "stopping"


class ProcessStatus(StrEnum):
    """The status of one worker process. `down`: the process has ended, and another starts soon."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    STOPPING = "stopping"
    DOWN = "down"


class ProcessHealth(View, frozen=True, kw_only=True):
    """
    The health of one worker process. `pid` is None while no process runs in this slot.

    `busy` is the number of running jobs. `loop_lag_seconds` is the time since the event loop last answered. `restarts`
    counts how often the process was replaced.
    """

    index: int
    name: str
    pid: int | None
    status: ProcessStatus
    busy: int = 0
    loop_lag_seconds: float = 0.0
    restarts: int = 0


class Health(View, frozen=True, kw_only=True):
    """
    The answer of `/health`. `pid` is the process that answers: the supervisor, or a worker without one.

    `ready` is true while at least one process claims jobs, and no stop was requested. `status` is `ok` only if every
    process claims jobs.
    """

    status: Status
    live: bool
    ready: bool
    pid: int
    processes: tuple[ProcessHealth, ...]


def sum_up(processes: Iterable[ProcessHealth], *, is_live: bool, is_stopping: bool) -> Health:
    """Return the health of all processes together."""
    each = tuple(processes)
    ready = sum(process.status is ProcessStatus.READY for process in each)
    if is_stopping:
        status = Status.STOPPING
    elif not ready:
        status = Status.UNREADY
    else:
        status = Status.OK if ready == len(each) else Status.DEGRADED
    return Health(
        status=status, live=is_live, ready=status in {Status.OK, Status.DEGRADED}, pid=os.getpid(), processes=each
    )
