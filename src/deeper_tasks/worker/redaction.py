"""The redaction: takes secrets out of the texts of an attempt, and cuts them to the length that is stored."""

from __future__ import annotations

from msgspec.structs import replace

from deeper_tasks.domain.job import ErrorReport, Progress
from deeper_tasks.domain.redactor import REST_WITHHELD, Redactor
from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.domain.text import storable
from deeper_tasks.tasks.context import MAX_LOG_LINE

_MOST_MESSAGE = 2_000
_MOST_TRACEBACK = 8_000
_BEGINNING = 100


class Redaction:
    """
    Takes secrets out of texts before they are stored, and before events show them.

    A text is cut afterwards, because half of a secret would not be recognized.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def settlement(self, settlement: Settlement) -> Settlement:
        """Return a settlement whose error and reasons may be stored. Never raises."""
        error, omitted = settlement.error, settlement.result_omitted
        return replace(
            settlement,
            error=None if error is None else self._error(error),
            result_omitted=None if omitted is None else self._text(omitted, most=_MOST_MESSAGE),
            reason=self._text(settlement.reason, most=_MOST_MESSAGE),
        )

    def line(self, line: str) -> str:
        """Return a line of a job's log that may be stored. Never raises."""
        return self._text(line, most=MAX_LOG_LINE)

    def progress(self, progress: Progress) -> Progress:
        """Return a progress whose message may be stored. Never raises."""
        return replace(progress, message=self.line(progress.message)) if progress.message else progress

    def _error(self, error: ErrorReport) -> ErrorReport:
        kind, message = storable(error.kind, most=_MOST_MESSAGE), self._text(error.message, most=_MOST_MESSAGE)
        traceback = error.traceback and self._redactor(error.traceback)
        last = f"{kind}: {message}"
        if traceback and traceback.endswith(REST_WITHHELD) and last[:_BEGINNING] not in traceback[-_MOST_TRACEBACK:]:
            traceback += f"\n{last}\n"
        if traceback is not None and len(traceback) > _MOST_TRACEBACK:
            # The end of it says what raised.
            traceback = "…" + traceback[-_MOST_TRACEBACK:]
        return replace(error, kind=kind, message=message, traceback=traceback)

    def _text(self, text: str, *, most: int) -> str:
        return storable(self._redactor(text), most=most) if text else text
