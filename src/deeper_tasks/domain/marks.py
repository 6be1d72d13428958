"""The marks of a job: what its earlier attempts tell those to come, and the rules by which a store keeps them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.domain.settlement import Settlement


class Marks(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The marks of the attempts so far, as a store keeps them; a claim returns them as fields of `ClaimedJob`.

    The moments are those of the first release of their kind, by the store's clock.
    """

    unknown_since: datetime | None = None
    unfit_since: datetime | None = None
    is_quarantined: bool = False

    def after(self, settlement: Settlement, *, now: datetime) -> Marks:
        """Return the marks when an attempt was settled: one whose handler ran wipes out all but what it sets itself."""
        kept = self if settlement.ran_for is None else NO_MARKS
        if settlement.is_task_unknown:
            return replace(kept, unknown_since=kept.unknown_since or now)
        if settlement.is_unfit:
            return replace(kept, unfit_since=kept.unfit_since or now)
        return replace(kept, is_quarantined=True) if settlement.is_process_lost else kept

    def after_rescue(self, *, is_suspect: bool) -> Marks:
        """Return the marks when the worker of a running job died, of which the job may be the cause."""
        return replace(self, is_quarantined=self.is_quarantined or is_suspect)

    def after_retry(self) -> Marks:
        """Return the marks when an operator retried the job."""
        return Marks(is_quarantined=self.is_quarantined)


NO_MARKS = Marks()
"""The marks of a new job."""
