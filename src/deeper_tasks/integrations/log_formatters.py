"""The formatters of the log: text that never fails, and JSON."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec

from deeper_tasks.domain.text import storable
from deeper_tasks.integrations.tracebacks import format_traceback

_LONGEST_FIELD = 10_000


class TotalFormatter(logging.Formatter):
    """A formatter that also writes exceptions which Python cannot show."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        """Return the lines of a traceback."""
        return format_traceback(ei[1]).rstrip("\n") if ei[1] is not None else super().formatException(ei)


class JsonFormatter(TotalFormatter):
    """Formats a record as one line of JSON: time (UTC), level, logger, message, and the fields it carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. A value that is not JSON appears as its text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            # A warning that is logged ends with a newline.
            "message": record.getMessage().rstrip("\n"),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OF_EVERY_RECORD and key not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            # Of another process, where the exception itself was left.
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return _json_line(line)


_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _json_line(line: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except Exception:  # noqa: BLE001 - a field of the application's: the line must come out
        plain = {
            storable(key, most=_LONGEST_FIELD): storable(value, most=_LONGEST_FIELD) for key, value in line.items()
        }
        return msgspec.json.encode(plain).decode()
