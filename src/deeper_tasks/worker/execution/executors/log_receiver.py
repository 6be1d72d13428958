"""The log receiver: writes the log records of the processes for jobs with the handlers of their worker."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress

import msgspec

from deeper_tasks.lasting import lasting
from deeper_tasks.worker.execution.executors.log_records import HandledBy, decode_record, kind_of
from deeper_tasks.worker.execution.job_log_records import JobRecords

OF_THE_COMMAND = "deeper_tasks.command"
"""The name of the handler that `deeper worker` sets up before the application, which processes for jobs do not have."""

_logger = logging.getLogger("deeper_tasks")

_MOST = 1 << 20
_NAME = "deeper-process-logs"
_END = b""
_PATIENCE = 2.0
"""Seconds for the last records to be written, also if a handler hangs."""


class LogReceiver:
    """Takes records in its own thread, so that a blocked event loop does not hold up a job that logs."""

    def __init__(self, records: JobRecords | None = None) -> None:
        self._records = records
        self._receiving, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=lasting(self._run, name=_NAME), name=_NAME, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write the records that were sent so far, and end the thread. To be called when the senders are gone."""
        self.theirs.settimeout(_PATIENCE)
        with suppress(OSError):
            self.theirs.send(_END)
            self._thread.join(_PATIENCE)
        self.theirs.close()
        if not self._thread.is_alive():
            self._receiving.close()

    def _run(self) -> None:
        with suppress(OSError):
            while (data := self._receiving.recv(_MOST)) != _END:
                self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            record, handled_by = decode_record(data)
        except (msgspec.MsgspecError, TypeError):
            _logger.warning("a process for jobs sent a log record that cannot be read")
            return
        if self._records is not None:
            self._records.filter(record)
        try:
            _write(record, handled_by)
        except Exception:
            _logger.exception("a log record of a process for jobs could not be written")


def _write(record: logging.LogRecord, handled_by: HandledBy) -> None:
    """Handle a record like `Logger.handle`, but with those handlers only that the other process does not have."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    assert logger is not None
    if logger.disabled or not logger.isEnabledFor(record.levelno) or not logger.filter(record):
        return
    is_handled = False
    while logger is not None:
        is_handled = is_handled or bool(logger.handlers)
        for handler in _without(logger.handlers, handled_by.get(logger.name, [])):
            if record.levelno >= handler.level:
                handler.handle(record)
        logger = logger.parent if logger.propagate else None
    if not is_handled and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
        logging.lastResort.handle(record)


def _without(handlers: list[logging.Handler], kinds: list[str]) -> list[logging.Handler]:
    """Return the handlers of a logger, except one of each of these kinds, which the application's import made there."""
    left, others = list(kinds), []
    for handler in handlers:
        if handler.name != OF_THE_COMMAND and (kind := kind_of(handler)) in left:
            left.remove(kind)
        else:
            others.append(handler)
    return others
