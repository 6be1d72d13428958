"""The marks of a job: the notes that its earlier attempts leave for later ones, and the rules for keeping them."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.domain.settlement import Settlement


class Mark(IntEnum):
    """The note that the end of an attempt leaves for the attempts to come, one at most. The numbers are schema."""

    TASK_UNKNOWN = 1
    UNFIT = 2
    QUARANTINED = 3


def mark_of(settlement: Settlement) -> Mark | None:
    """Return the note that a settlement leaves."""
    if settlement.is_task_unknown:
        return Mark.TASK_UNKNOWN
    if settlement.is_unfit:
        return Mark.UNFIT
    return Mark.QUARANTINED if settlement.is_process_lost else None


class Marks(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The marks of the attempts so far, as a store keeps them; a claim returns them as fields of `ClaimedJob`.

    Each moment is the time of the first release of its kind, by the store's clock.
    """

    unknown_since: datetime | None = None
    unfit_since: datetime | None = None
    is_quarantined: bool = False

    def changed(self, *, clears: bool, mark: Mark | None, now: datetime) -> Marks:
        """Return the marks after a change that clears them or keeps them, and then may set one."""
        kept = NO_MARKS if clears else self
        if mark is None:
            return kept
        if mark is Mark.TASK_UNKNOWN:
            return replace(kept, unknown_since=kept.unknown_since or now)
        if mark is Mark.UNFIT:
            return replace(kept, unfit_since=kept.unfit_since or now)
        return replace(kept, is_quarantined=True)

    def after_retry(self) -> Marks:
        """Return the marks after an operator retried the job."""
        return Marks(is_quarantined=self.is_quarantined)


NO_MARKS = Marks()
"""The marks of a new job."""
