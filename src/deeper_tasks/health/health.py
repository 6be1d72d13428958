"""The health of the worker processes that belong together, as it is told outside."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum

from deeper_tasks.domain.view import View


class Status(StrEnum):
    """How the worker processes are, taken together."""

    OK = "ok"
    DEGRADED = "degraded"
    UNREADY = "unready"
    STOPPING = "stopping"


class ProcessStatus(StrEnum):
    """How one worker process is. `down`: there is none, and another is started soon."""

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    STOPPING = "stopping"
    DOWN = "down"


class ProcessHealth(View, frozen=True, kw_only=True):
    """
    One worker process. `pid` is None while there is none.

    `busy` counts the jobs that run; `loop_lag_seconds` is how long its event
    loop has not answered; `restarts` how often its place was filled again.
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
    The answer of `/health`. `pid` is the process that answers: the supervisor, or else the worker.

    `ready` holds while at least one process claims jobs and none of this is to
    stop: then work goes on. `status` says `ok` only when every process does.
    """

    status: Status
    live: bool
    ready: bool
    pid: int
    processes: tuple[ProcessHealth, ...]


def sum_up(processes: Iterable[ProcessHealth], *, is_live: bool, is_stopping: bool) -> Health:
    """Return the health of all from that of each."""
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
