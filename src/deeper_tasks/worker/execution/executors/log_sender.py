"""The log sender: sends the log records of a process for jobs to its worker, which writes them like its own."""

from __future__ import annotations

import errno
import logging
import socket

from deeper_tasks.worker.execution.executors.log_records import HandledBy, encode_record, kind_of, shortened

_PATIENCE = 5.0
"""Seconds that a record waits while the worker takes none, before it is dropped."""


class LogSender(logging.Handler):
    """
    A handler of the root logger, set up before the application is imported.

    Each record is one datagram, so that a child, its threads and its forks may send at the same time.
    """

    def __init__(self, connection: socket.socket, *, levels: dict[str, int], disabled: int) -> None:
        super().__init__()
        connection.settimeout(_PATIENCE)
        self._connection = connection
        self._levels = levels
        self._disabled = disabled
        self._handled_by: HandledBy = {}

    def take_part(self) -> None:
        """Log from now on with the worker's levels, and only once if the application has its own handlers."""
        root = logging.getLogger()
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        logging.disable(self._disabled)
        loggers = {root.name: root, **root.manager.loggerDict}
        own = {
            name: [kind_of(handler) for handler in logger.handlers if handler is not self]
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger)
        }
        self._handled_by = {name: kinds for name, kinds in own.items() if kinds}

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record. If the worker is gone the record is dropped; other errors go to stderr."""
        try:
            data = encode_record(record, handled_by=self._handled_by)
            try:
                self._connection.send(data)
            except OSError as error:
                if error.errno not in {errno.EMSGSIZE, errno.ENOBUFS}:
                    raise
                self._connection.send(shortened(data))
        except (ConnectionError, TimeoutError):
            return
        except Exception:  # noqa: BLE001 - a line of log must not fail a job
            self.handleError(record)


def take_part() -> None:
    """Let the log sender of this process, if there is one, follow the handlers that the application has set up."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogSender):
            handler.take_part()


def levels_here() -> dict[str, int]:
    """Return the levels that loggers of this process were given, by name."""
    root = logging.getLogger()
    loggers = [root, *(each for each in [*root.manager.loggerDict.values()] if isinstance(each, logging.Logger))]
    return {logger.name: logger.level for logger in loggers if logger.level}
