"""The evidence: what a soak leaves behind, of the store, the journal and the acknowledgements together."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from deeper_tasks.backends.protocol import Counts
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.schedule import ScheduleEntry
from proofs.soak.journal import Acknowledgement
from proofs.soak.raid import Blow
from proofs.soak.runs import Run

CLOCKS_DIFFER = 0.05
"""Seconds by which the store's wall clock and the journal's monotonic one may drift apart within a job's delay."""


class Evidence(Struct, frozen=True, kw_only=True):
    """
    All that is left. `slots` are those of one worker process; `boot` is the wall clock's time at monotonic 0.

    Of the runs beyond those needed, `excused` (job and attempt) were over while their end could not be written.
    `interruptions` are the kinds of errors that a lead may have met when it enqueued.
    """

    jobs: dict[str, Job]
    runs: dict[str, list[Run]]
    acknowledged: Sequence[Acknowledgement]
    blows: Sequence[Blow]
    counts: Counts
    schedule: ScheduleEntry | None
    unique_keys: int
    integrity: Sequence[str] = ()
    slots: int
    boot: float
    excused: frozenset[tuple[str, int]] = frozenset()
    interruptions: frozenset[str] = frozenset()
