"""The runs: what became of each start that the journal has, seen beside the jobs as the store has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deeper_tasks.backends.protocol import Backend, JobQuery, SortKey
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from proofs.soak.journal import Entry

LOST = "WorkerLost"
"""The kind of error that a rescue writes."""

_PAGE = 500


class Run(Struct, frozen=True, kw_only=True):
    """
    One start of a handler. `over_at` is None for one that neither returned nor raised.

    `is_wanted`: the store counts its outcome, be it an end or an error by
    design. All others are beyond what the jobs needed.
    """

    job: str
    attempt: int
    worker: int
    started_at: float
    over_at: float | None
    has_returned: bool
    is_wanted: bool


def runs_of(jobs: Sequence[Job], journal: Sequence[Entry]) -> dict[str, list[Run]]:
    """Return the runs of each job, in the order of their starts."""
    wanted = {(job.id, attempt) for job in jobs for attempt in _wanted_attempts(job)}
    over = {(entry.job, entry.attempt, entry.pid): entry for entry in journal if entry.event != "start"}
    runs: dict[str, list[Run]] = defaultdict(list)
    for entry in sorted(journal, key=lambda each: each.at):
        if entry.event == "start":
            last = over.get((entry.job, entry.attempt, entry.pid))
            runs[entry.job].append(
                Run(
                    job=entry.job,
                    attempt=entry.attempt,
                    worker=entry.worker,
                    started_at=entry.at,
                    over_at=None if last is None else last.at,
                    has_returned=last is not None and last.event == "end",
                    is_wanted=(entry.job, entry.attempt) in wanted,
                )
            )
    return runs


def _wanted_attempts(job: Job) -> list[int]:
    by_design = [error.attempt for error in job.errors if error.kind != LOST]
    return [*by_design, job.attempt] if job.state is State.COMPLETED else by_design


async def all_jobs(backend: Backend) -> AsyncIterator[Job]:
    """Yield all jobs of a store, the oldest first."""
    query = JobQuery(sort_by=SortKey.INSERTED_AT, is_descending=False, limit=_PAGE)
    while True:
        page = await backend.find(query)
        for job in page.jobs:
            yield job
        if page.next is None:
            return
        query = replace(query, after=page.next)
