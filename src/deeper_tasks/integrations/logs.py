"""Logs: the life of jobs and workers in the logger `deeper_tasks`. Arguments and results never appear."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from logging import DEBUG, INFO
from typing import Any

import msgspec

from deeper_tasks.domain.job import ErrorReport
from deeper_tasks.domain.settlement import ANNOUNCED_REASONS
from deeper_tasks.integrations import events
from deeper_tasks.integrations.events import Event, EventBus, JobEvent
from deeper_tasks.integrations.log_sentences import SENTENCES


class LogSubscriber:
    """
    Writes events to a logger, with `job_id`, `task`, `queue` and `attempt` as fields of the record.

    It wants only the kinds whose level is enabled at the moment, so at WARNING
    a job that starts and completes costs nothing.
    """

    def __init__(self, logger: logging.Logger | None = None, *, tracebacks: str = "error") -> None:
        """Take the level, `error` or `warning`, from which the line of a failed attempt has its traceback."""
        self._logger = logger or logging.getLogger("deeper_tasks")
        self._shows_all_tracebacks = tracebacks == "warning"

    def subscribe_to(self, bus: EventBus) -> Callable[[], None]:
        """Start to listen; returns a function that stops it."""
        return bus.subscribe(self, *SENTENCES, is_wanted=self.is_wanted)

    def is_wanted(self, kind: type[Event]) -> bool:
        """Whether an event of this kind would be written."""
        entry = SENTENCES.get(kind)
        return entry is not None and self._logger.isEnabledFor(entry[0])

    def __call__(self, event: Event) -> None:
        """Write one event."""
        level, sentence = SENTENCES[type(event)]
        if isinstance(event, events.JobReleased) and event.reason in ANNOUNCED_REASONS:
            level = DEBUG
        elif isinstance(event, events.StoreMade) and not (event.is_worker or event.is_elsewhere):
            level = INFO
        traceback = self._traceback(event)
        if traceback is None:
            self._logger.log(level, "%s", sentence(event), extra=_fields(event))
            return
        place = (__file__, 0, "%s", (sentence(event),), None, None)
        record = self._logger.makeRecord(self._logger.name, level, *place, extra=_fields(event))
        # The exception itself may have been in another process, or in another life of this worker.
        record.exc_text = traceback
        self._logger.handle(record)

    def _traceback(self, event: Event) -> str | None:
        """Return the traceback that belongs to the line of an event, if one does."""
        is_last = isinstance(event, events.JobFailed | events.JobDiscarded)
        if is_last or (self._shows_all_tracebacks and isinstance(event, events.JobRetried)):
            error: ErrorReport = event.error  # type: ignore[attr-defined]
            return error.traceback and error.traceback.rstrip("\n")
        return None


def level_of(kind: type[Event]) -> int | None:
    """Return the level at which an event of this kind is logged; None: it is not."""
    entry = SENTENCES.get(kind)
    return None if entry is None else entry[0]


def keep_enabled(name: str = "deeper_tasks") -> None:
    """
    Keep a logger of this process enabled, whatever is configured later.

    `logging.config` disables each logger that it does not name, by its default, and a worker would be silent.
    """
    logger = logging.getLogger(name)
    if not isinstance(logger, _KeptEnabled):
        logger.disabled = False
        logger.__class__ = type("KeptEnabled", (_KeptEnabled, type(logger)), {})


def log_warnings() -> None:
    """Have the warnings of this process (`warnings.warn`) logged, by the logger `py.warnings`."""
    logging.captureWarnings(True)
    keep_enabled("py.warnings")


def logs_warnings() -> bool:
    """Whether the warnings of this process are logged, because of `log_warnings` or of the application."""
    return getattr(warnings.showwarning, "__module__", None) == "logging"


class _KeptEnabled(logging.Logger):
    def __setattr__(self, name: str, value: object) -> None:
        if name != "disabled":
            super().__setattr__(name, value)


def _fields(event: Event) -> dict[str, Any]:
    if not isinstance(event, JobEvent):
        # `name` would collide with the record's own.
        values = msgspec.structs.asdict(event)
        return {_RENAMED.get(key, key): value for key, value in values.items() if key not in _IN_THE_MESSAGE}
    return {"job_id": event.job_id, "task": event.task, "queue": event.queue, "attempt": event.attempt}


_RENAMED = {"name": "schedule"}
_IN_THE_MESSAGE = frozenset({"stack"})
