"""The messages from a worker process to its supervisor: lines of JSON."""

from __future__ import annotations

import logging

import msgspec
from msgspec import Struct

_logger = logging.getLogger("deeper_tasks")

_LONGEST = 1024 * 1024


class Loaded(Struct, frozen=True, kw_only=True, tag="loaded"):
    """The message that the application is imported and its settings can be used. `grace` is in seconds."""

    store: str
    queues: dict[str, int]
    tasks: int
    grace: float


class Report(Struct, frozen=True, kw_only=True, tag="report"):
    """A sign of life with the state of the process. `loop_lag`: seconds since its event loop last answered."""

    is_ready: bool
    is_stopping: bool
    busy: int
    loop_lag: float


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """The message that the store cannot serve the application's tasks, which no other process could mend."""


Message = Loaded | Refused | Report

_decoder = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message as a line of JSON."""
    return msgspec.json.encode(message) + b"\n"


class Lines:
    """Splits the bytes from a pipe into messages; an unfinished line is kept until its end has come."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes. A line that cannot be read is logged and dropped."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            self._rest = b""
        messages: list[Message] = []
        for line in lines:
            try:
                messages.append(_decoder.decode(line))
            except msgspec.DecodeError:
                _logger.warning("supervisor dropped an invalid line from a worker process: %.100r", line)
        return messages
