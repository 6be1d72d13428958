"""The messages that a worker process sends its supervisor: a line of JSON each."""

from __future__ import annotations

import logging

import msgspec
from msgspec import Struct

_logger = logging.getLogger("deeper_tasks")

_LONGEST = 1024 * 1024


class Loaded(Struct, frozen=True, kw_only=True, tag="loaded"):
    """The application is imported and the settings can be used. `grace` is in seconds."""

    store: str
    queues: dict[str, int]
    tasks: int
    grace: float


class Report(Struct, frozen=True, kw_only=True, tag="report"):
    """A sign of life, and what the process does. `loop_lag` is how many seconds its loop has not answered."""

    is_ready: bool
    is_stopping: bool
    busy: int
    loop_lag: float


Message = Loaded | Report

_decoder = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return the line."""
    return msgspec.json.encode(message) + b"\n"


class Lines:
    """What has come through a pipe: whole lines are messages, the rest of one waits for its end."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> list[Message]:
        """Return the messages that are complete now. One that cannot be read is logged and left out."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            self._rest = b""
        messages: list[Message] = []
        for line in lines:
            try:
                messages.append(_decoder.decode(line))
            except msgspec.DecodeError:
                _logger.warning("a worker process sent what is no message, it is left out: %.100r", line)
        return messages
