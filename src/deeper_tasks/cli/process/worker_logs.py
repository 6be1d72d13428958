"""The logs of a worker process: lines of text or of JSON on stderr."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from deeper_tasks.cli.rendering.formats import safe
from deeper_tasks.integrations.log_formatters import JsonFormatter, TotalFormatter
from deeper_tasks.integrations.logs import keep_enabled, log_warnings
from deeper_tasks.worker.execution.executors.log_receiver import OF_THE_COMMAND

TEXT, JSON, NONE = "text", "json", "none"
_OUTPUT = (1, 2)
LEVELS = ("debug", "info", "warning", "error", "critical")


def start_logging(form: str, *, index: int | None = None) -> logging.Handler:
    """
    Write the process's log lines and warnings on stderr, from level `info` up, and return the handler.

    The lines of a supervised process have its index and its pid. Call it before
    the application is imported, which may then change the logging. The logger
    `deeper_tasks` stays enabled in that case. With `NONE` no handler is added.
    """
    keep_enabled()
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(OF_THE_COMMAND)
    handler.setFormatter(JsonFormatter() if form == JSON else _TextFormatter())
    if index is not None:
        handler.addFilter(_Origin(index))
    if form != NONE:
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        log_warnings()
    return handler


def set_level(handler: logging.Handler, *, asked: str | None, setting: str) -> None:
    """Set the level to `asked`; without it, to the setting's level unless the application has removed the handler."""
    root = logging.getLogger()
    if asked is not None or handler in root.handlers:
        root.setLevel((asked or setting).upper())


def make_way(handler: logging.Handler) -> None:
    """Remove the handler if the application has one that writes all lines from `info` up to stdout or stderr."""
    root = logging.getLogger()
    if any(each is not handler and each.level <= logging.INFO and _is_on_the_output(each) for each in root.handlers):
        root.removeHandler(handler)


def _is_on_the_output(handler: logging.Handler) -> bool:
    """Whether a handler, one of the logging module or of rich, writes to stdout or stderr."""
    try:
        stream: Any = getattr(handler, "stream", None) or handler.console.file  # type: ignore[attr-defined]
        return stream.fileno() in _OUTPUT
    except Exception:  # noqa: BLE001 - a class of the application without such a stream
        return False


class _Origin(logging.Filter):
    """Adds the index and the pid of the worker process to each record."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields, and keep the record."""
        # The record's pid, not this process's: a process for jobs, or a process that a task forks, has its own.
        record.__dict__ |= {"process_index": self._index, "pid": record.process}
        return True


class _TextFormatter(TotalFormatter):
    """
    A line such as `2026-01-31 12:00:00.000+0100 WARNING message`.

    Before the message stand the index and pid of one of several processes, the name of a logger that is not this
    library's, and the job whose code has logged: `myapp.mail: [myapp.send 0197… attempt 2] message`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback after it."""
        message = safe(record.getMessage()).rstrip("\n")
        moment = time.localtime(record.created)
        clock = f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{record.msecs:03.0f}{time.strftime('%z', moment)}"
        named = "" if record.name.split(".")[0] == "deeper_tasks" else f"{record.name}: "
        index = getattr(record, "process_index", None)
        origin = "" if index is None else f"[{index}:{record.__dict__['pid']}] "
        job = _job(record) if named else ""
        parts = [f"{clock} {record.levelname:<7} {origin}{named}{job}{message}"]
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        elif record.exc_text:
            parts.append(record.exc_text)
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return "\n".join(parts)


def _job(record: logging.LogRecord) -> str:
    """Return the job whose code has logged a record, as a prefix of the message; "" if no job has."""
    fields = record.__dict__
    if fields.get("job_id") is None:
        return ""
    return f"[{safe(fields.get('task', ''))} {safe(fields['job_id'])} attempt {safe(fields.get('attempt', ''))}] "
