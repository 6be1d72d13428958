"""The job log records: while a worker runs, records of its jobs' code name the job, and no record shows a secret."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet, ref

from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.integrations.tracebacks import format_traceback
from deeper_tasks.tasks.context import job_fields

_LIBRARY = "deeper_tasks"


class JobRecords(logging.Filter):
    """
    Adds `job_id`, `task`, `queue` and `attempt` to each record that a job's code logs, for every handler.

    Use it as a context manager. Inside, it is a filter of each handler that a record reaches, before the handler's
    own filters. The factory of records (`logging.setLogRecordFactory`) adds it to the handlers, so a handler that is
    set up later has it too. A field that the record has already, by `extra`, stays; if the factory set the fields
    itself, `extra` with one of these names would raise.

    Secrets are taken out of records of a job's code, and out of each traceback and each warning of the library. A
    record without secrets is not changed.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor
        self._handlers: WeakSet[logging.Handler] = WeakSet()
        self._before: Any = None
        self._is_over = False
        self._seen = threading.local()

    def __enter__(self) -> Self:
        self._before = logging.getLogRecordFactory()
        self._is_over = False
        logging.setLogRecordFactory(self._make)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        if logging.getLogRecordFactory() == self._make:
            logging.setLogRecordFactory(self._before)
        # Otherwise another factory wraps this one and stays in use; this one then adds nothing.
        for handler in self._handlers:
            handler.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a record pass, with the fields of its job and without secrets."""
        # Several handlers of one logger get the record in turn. A weak reference, as its exception refers to frames.
        seen = getattr(self._seen, "record", None)
        if seen is None or seen() is not record:
            self._seen.record = ref(record)
            with suppress(Exception):  # values of the application may raise; the record must be written nevertheless
                self._complete(record)
        return True

    def _complete(self, record: logging.LogRecord) -> None:
        for name, value in job_fields().items():
            record.__dict__.setdefault(name, value)
        is_from_library = record.name.partition(".")[0] == _LIBRARY
        if record.exc_info or record.exc_text:
            self._redact_exception(record)
        elif not (record.levelno >= logging.WARNING if is_from_library else "job_id" in record.__dict__):
            return
        message = record.getMessage()
        if (redacted := self._redactor(message)) != message:
            record.msg, record.args = redacted, ()

    def _redact_exception(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.exc_text if error is None else format_traceback(error).rstrip("\n")
        if text and (redacted := self._redactor(text)) != text:
            # Otherwise a handler would show the exception itself.
            record.exc_text, record.exc_info = redacted, None

    def _make(self, name: str | None, level: int, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._before(name, level, *args, **kwargs)
        if name and not self._is_over and (level >= logging.WARNING or record.exc_info or job_fields()):
            self._join_handlers_of(name)
        return record

    def _join_handlers_of(self, name: str) -> None:
        logger: logging.Logger | None = logging.getLogger(name)
        handlers: list[logging.Handler] = []
        while logger is not None:
            handlers += logger.handlers
            logger = logger.parent if logger.propagate else None
        for handler in handlers or ([logging.lastResort] if logging.lastResort is not None else []):
            if self not in handler.filters:
                # First, so that the application's own filters see the fields too.
                handler.filters.insert(0, self)
                self._handlers.add(handler)
