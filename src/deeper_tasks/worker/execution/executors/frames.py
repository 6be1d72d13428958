"""Frames: the messages between a worker and its child processes, as JSON with its length in front."""

from __future__ import annotations

import asyncio
import socket
import struct
from datetime import timedelta

import msgspec
from msgspec import Struct

from deeper_tasks.domain.job import ClaimedJob, ErrorReport, Progress
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.worker.execution.call import CallSettings
from deeper_tasks.worker.home import Home
from deeper_tasks.worker.hooks.hook_names import HookNames, RedactorName

_HEADER = struct.Struct("!I")
_MOST = 64 * 1024 * 1024


class GarbledError(Exception):
    """The other side sent no valid frame, because other code wrote to the socket."""


class Setup(Struct, frozen=True, kw_only=True, tag=True):
    """
    Worker to zygote, first of all: where modules are found, which to import, and the hooks that each child runs.

    `redactor` takes secrets out of records that children log to their own handlers; None if the worker does it, or the
    manager that they import.
    `log_levels` are the levels of the worker's loggers, and `logs_disabled` is its level of `logging.disable`.
    `logs_warnings` says whether warnings are logged there.
    """

    path: list[str]
    modules: list[str]
    hooks: HookNames | None = None
    redactor: RedactorName | None = None
    log_levels: dict[str, int] = {}
    logs_disabled: int = 0
    logs_warnings: bool = False


class Fork(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote: fork a child; its socket comes along."""


class Kill(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote: kill a child and all it started."""

    pid: int


class Watch(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote: kill a child and all it started when they use more memory than this, in bytes."""

    pid: int
    memory_limit: int


class Unwatch(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote: the child has no limit of memory any more."""

    pid: int


class Unwatched(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: the child is not watched any more, and was not killed."""

    pid: int


class Ready(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: the modules are imported, or why they are not."""

    error: str | None = None


class Forked(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: the child of the oldest unanswered `Fork`."""

    pid: int


class Unforked(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: there is no child for the oldest unanswered `Fork`, and why."""

    error: str


class Exited(Struct, frozen=True, kw_only=True, tag=True):
    """
    Zygote to worker: a child has ended, with this exit code, or by a signal where negative.

    `is_over_limit` says that it was killed because it used too much memory.
    """

    pid: int
    code: int
    is_over_limit: bool = False


class Busy(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote or child to worker, before it is ready: its current work, in words."""

    doing: str


class Started(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker, where there are hooks: the start hooks have run, or why not; then the child ends."""

    error: ErrorReport | None = None


class Run(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to child: run a job of the task found at `module` and `qualname`."""

    module: str
    qualname: str
    job: ClaimedJob
    timeout: timedelta | None
    settings: CallSettings


class StopNotice(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to child: the job that it runs should stop, and why. The child reads it when the handler asks."""

    stop: Stop
    reason: str = ""


class Prepare(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to child, first of all: get ready like a worker of the manager at this home, for a job of this task."""

    home: Home
    task: str
    module: str | None


class Prepared(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: it is ready to run the job, or why it is not."""

    error: str | None = None


class ProgressMade(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: the progress of the job."""

    progress: Progress


class Logged(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: a line for the job's log."""

    line: str


class Done(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: the end of the attempt. `is_worn` says that the child must not run another one."""

    settlement: Settlement
    is_worn: bool = False


class Declined(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: it cannot run the job, and why; it has not called the handler, and ends."""

    reason: str


Frame = (
    Setup
    | Fork
    | Kill
    | Watch
    | Unwatch
    | Unwatched
    | Ready
    | Forked
    | Unforked
    | Exited
    | Busy
    | Started
    | Run
    | StopNotice
    | Prepare
    | Prepared
    | ProgressMade
    | Logged
    | Done
    | Declined
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """Return a frame with its length in front."""
    body = _encoder.encode(frame)
    return _HEADER.pack(len(body)) + body


async def read(stream: asyncio.StreamReader, *, most: int = _MOST) -> Frame | None:
    """
    Return the next frame; None when the other side has closed.

    Raises:
        GarbledError: the data is no frame, or a frame of more than `most` bytes.
    """
    try:
        (length,) = _HEADER.unpack(await stream.readexactly(_HEADER.size))
        if length > most:
            message = f"a frame of {length} bytes, more than the {most} that may come"
            raise GarbledError(message)
        return _decoder.decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except msgspec.MsgspecError as error:
        raise GarbledError(str(error)) from error


def receive(connection: socket.socket) -> tuple[Frame | None, list[int]]:
    """Wait for the next frame and the file descriptors that came with it; None when the other side has closed."""
    descriptors: list[int] = []
    try:
        header, descriptors, _, _ = socket.recv_fds(connection, _HEADER.size, 1)
        header += _exactly(connection, _HEADER.size - len(header)) if header else b""
        if len(header) < _HEADER.size:
            return None, descriptors
        (length,) = _HEADER.unpack(header)
        body = _exactly(connection, length)
    except ConnectionResetError:
        # Closed before it has read all that was sent.
        return None, descriptors
    return (_decoder.decode(body) if len(body) == length else None), descriptors


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = connection.recv(count - len(parts))
        except ConnectionError:
            part = b""
        if not part:
            break
        parts += part
    return bytes(parts)
