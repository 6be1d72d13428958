"""The logs of a worker process: lines on stderr, as text or as JSON."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from deeper_tasks.cli.rendering.output import safe
from deeper_tasks.integrations.log_formatters import JsonFormatter, TotalFormatter
from deeper_tasks.integrations.logs import keep_enabled, log_warnings
from deeper_tasks.worker.execution.executors.log_receiver import OF_THE_COMMAND

TEXT, JSON, NONE = "text", "json", "none"
_OUTPUT = (1, 2)
LEVELS = ("debug", "info", "warning", "error", "critical")


def start_logging(form: str, *, index: int | None = None) -> logging.Handler:
    """
    Have the process's log lines and warnings written to stderr, from `info` up.

    Those of a supervised process name its index and its pid. It is done before
    the application is imported, which may then arrange its logs otherwise. The
    logger `deeper_tasks` stays enabled then. With `NONE` nothing else is done.
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
    """Write from the level that was asked for, or else from the setting's unless the application took over."""
    root = logging.getLogger()
    if asked is not None or handler in root.handlers:
        root.setLevel((asked or setting).upper())


def make_way(handler: logging.Handler) -> None:
    """Leave the lines to a handler of the application's that writes all of them to the same output."""
    root = logging.getLogger()
    if any(each is not handler and each.level <= logging.INFO and _is_on_the_output(each) for each in root.handlers):
        root.removeHandler(handler)


def _is_on_the_output(handler: logging.Handler) -> bool:
    """Whether a handler writes to stdout or stderr: one of logging's own, or of rich."""
    try:
        stream: Any = getattr(handler, "stream", None) or handler.console.file  # type: ignore[attr-defined]
        return stream.fileno() in _OUTPUT
    except Exception:  # noqa: BLE001 - the application's class; it writes to something else, then
        return False


class _Origin(logging.Filter):
    """Writes into each record which of the worker processes it comes from."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def filter(self, record: logging.LogRecord) -> bool:
        """Let it pass."""
        # The pid of where it was logged: a process for jobs has another, and so has one that a task forks.
        record.__dict__ |= {"process_index": self._index, "pid": record.process}
        return True


class _TextFormatter(TotalFormatter):
    """
    `2026-01-31 12:00:00.000+0100 WARNING message`; a logger of others, and one of several processes, is named.

    So is the job whose code has logged it: `myapp.mail: [myapp.send 0197… attempt 2] message`.
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
    """Return which job's code has logged a record; nothing where it was no job's."""
    fields = record.__dict__
    if fields.get("job_id") is None:
        return ""
    return f"[{safe(fields.get('task', ''))} {safe(fields['job_id'])} attempt {safe(fields.get('attempt', ''))}] "
