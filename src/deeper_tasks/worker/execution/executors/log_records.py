"""Log records between processes: encoded in a process for jobs, and made anew in its worker."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec import Struct

from deeper_tasks.domain.text import searchable
from deeper_tasks.integrations.log_formatters import TotalFormatter

_formatter = TotalFormatter()
_OF_THE_CALL = frozenset({"args", "exc_info", "exc_text", "message", "asctime"})
_MOST_TEXT = 16_000
"""Characters that are kept of each text if the whole record is too long to be sent."""


HandledBy = dict[str, list[str]]


class SentRecord(Struct, frozen=True, kw_only=True):
    """
    A record as its fields, with its message and its traceback as text.

    `handled_by` has the kinds of the handlers that have handled it in its own process, by the names of their loggers.
    """

    fields: dict[str, Any]
    handled_by: HandledBy


def encode_record(record: logging.LogRecord, *, handled_by: HandledBy) -> bytes:
    """Return a record as bytes; values that are not JSON appear as their text."""
    written = {name: value for name, value in vars(record).items() if name not in _OF_THE_CALL}
    written["msg"] = record.getMessage()
    written["exc_text"] = _formatter.formatException(record.exc_info) if record.exc_info else record.exc_text
    try:
        return _encoder.encode(SentRecord(fields=written, handled_by=handled_by))
    except Exception:  # noqa: BLE001 - a field of the application's: the line must come out
        plain = {name: _as_text(value) for name, value in written.items()}
        return _encoder.encode(SentRecord(fields=plain, handled_by=handled_by))


def shortened(data: bytes) -> bytes:
    """Return the encoded record with only the beginning of each long text."""
    sent = _decoder.decode(data)
    fields = {name: value for name, value in sent.fields.items() if isinstance(value, str | int | float | None)}
    keeps = {
        name: searchable(each, most=_MOST_TEXT) if isinstance(each, str) else each for name, each in fields.items()
    }
    return _encoder.encode(SentRecord(fields=keeps, handled_by=sent.handled_by))


def decode_record(data: bytes) -> tuple[logging.LogRecord, HandledBy]:
    """Return a record and the kinds of the handlers that have handled it. Raises msgspec.MsgspecError."""
    sent = _decoder.decode(data)
    return logging.makeLogRecord(sent.fields), sent.handled_by


def kind_of(handler: logging.Handler) -> str:
    """Return a key that two handlers share if the same code has set them up in two processes."""
    return f"{type(handler).__module__}.{type(handler).__qualname__}"


def _as_text(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - the same
        return f"<{type(value).__name__}>"


_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(SentRecord)
