"""Frames: what a worker and its child processes say to each other, as JSON with its length in front."""

from __future__ import annotations

import asyncio
import socket
import struct
from datetime import timedelta

import msgspec
from msgspec import Struct

from deeper_tasks.domain.job import ClaimedJob, Progress
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.worker.call import CallSettings

_HEADER = struct.Struct("!I")


class Setup(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote, first of all: where modules are found, and which to import."""

    path: list[str]
    modules: list[str]


class Fork(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote: fork a child; its socket comes along."""


class Kill(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to zygote: kill a child and all it started."""

    pid: int


class Ready(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: the modules are imported, or why they are not."""

    error: str | None = None


class Forked(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: the child of the oldest unanswered `Fork`."""

    pid: int


class Exited(Struct, frozen=True, kw_only=True, tag=True):
    """Zygote to worker: a child has ended, with this exit code, or by a signal where negative."""

    pid: int
    code: int


class Run(Struct, frozen=True, kw_only=True, tag=True):
    """Worker to child: run a job of the task found at `module` and `qualname`."""

    module: str
    qualname: str
    job: ClaimedJob
    timeout: timedelta | None
    settings: CallSettings


class ProgressMade(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: how far the job is."""

    progress: Progress


class Logged(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: a line for the job's log."""

    line: str


class Done(Struct, frozen=True, kw_only=True, tag=True):
    """Child to worker: how the attempt ended."""

    settlement: Settlement


Frame = Setup | Fork | Kill | Ready | Forked | Exited | Run | ProgressMade | Logged | Done

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Frame] = msgspec.json.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """Return a frame with its length in front."""
    body = _encoder.encode(frame)
    return _HEADER.pack(len(body)) + body


async def read(stream: asyncio.StreamReader) -> Frame | None:
    """Return the next frame; None when the other side has closed."""
    try:
        (length,) = _HEADER.unpack(await stream.readexactly(_HEADER.size))
        return _decoder.decode(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive(connection: socket.socket) -> tuple[Frame | None, list[int]]:
    """Wait for the next frame and the file descriptors that came with it; None when the other side has closed."""
    try:
        header, descriptors, _, _ = socket.recv_fds(connection, _HEADER.size, 1)
    except ConnectionError:
        # Closed with something unread: who was killed reads no more.
        return None, []
    header += _exactly(connection, _HEADER.size - len(header)) if header else b""
    if len(header) < _HEADER.size:
        return None, descriptors
    (length,) = _HEADER.unpack(header)
    body = _exactly(connection, length)
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
