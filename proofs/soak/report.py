"""The report: the figures of a soak, and what was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from msgspec import Struct
from rich.table import Table

from deeper_tasks.domain.state import State
from proofs.soak.evidence import Evidence
from proofs.soak.examination import faults_of
from proofs.soak.raid import Blow, Kind, Plan
from proofs.soak.runs import LOST, Run
from proofs.verdict import print_verdict, screen

_GRAVE = {"error", "critical"}
_EXPECTED = ("supervisor has ended", "failed, no retry can help", "discarded after")
_OF_STOPS = "taken for dead"


class Spell(Struct, frozen=True, kw_only=True):
    """Seconds from a blow until all was well, over all blows for which it is known."""

    count: int = 0
    median: float | None = None
    longest: float | None = None


class Report(Struct, frozen=True, kw_only=True):
    """
    The results of a soak.

    `rescued` jobs were taken from a dead worker at least once; of their runs
    `lost` broke off, and `repeated` were over already, but the store did not
    know yet. `stale` ones began after the job's next attempt had begun: their
    worker had been stopped just before. `rescue` is the time until jobs of the
    dead had started elsewhere, `renewal` that until a process started after
    the blow completed a job.
    """

    seed: int
    plan: Plan
    is_proved: bool
    took: float
    enqueued: int
    refused_as_duplicates: int
    jobs: int
    states: dict[State, int]
    ticks: int
    runs: int
    rescued: int
    lost: int
    repeated: int
    stale: int
    most_attempts: int
    blows: dict[Kind, int]
    rescue: Spell
    renewal: dict[Kind, Spell]
    faults: list[str]

    def show(self) -> None:
        """Print it for people."""
        table = Table(title=f"soak, seed {self.seed}", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._rows():
            table.add_row(name, value)
        screen().print(table)
        print_verdict(self.faults)

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "enqueues acknowledged", f"{self.enqueued:,}"
        yield "of these, held back by a unique key", f"{self.refused_as_duplicates:,}"
        yield "jobs", f"{self.jobs:,}"
        yield from ((f"  {state}", f"{count:,}") for state, count in self.states.items())
        yield "of these, by the recurring task", f"{self.ticks:,}"
        yield from ((kind.value, f"{count:,}") for kind, count in self.blows.items())
        yield "jobs rescued", f"{self.rescued:,}"
        yield "runs of handlers", f"{self.runs:,}"
        yield "  broken off by a kill and run again", f"{self.lost:,}"
        yield "  over, but not known to the store, and run again", f"{self.repeated:,}"
        yield "  begun after the job's next attempt", f"{self.stale:,}"
        yield "most attempts of a job", f"{self.most_attempts}"
        yield "took", f"{self.took:.0f} s"
        yield "from a kill until its jobs ran again, median and longest", _in_words(self.rescue)
        for kind, spell in self.renewal.items():
            yield f"from '{kind}' until a new process completed a job", _in_words(spell)


def sum_up(evidence: Evidence, *, faults: Iterable[str], seed: int, took: float, plan: Plan) -> Report:
    """Examine the evidence; `faults` are those known already."""
    found = [*faults, *faults_of(evidence)]
    runs = [run for each in evidence.runs.values() for run in each]
    jobs = evidence.jobs.values()
    return Report(
        seed=seed,
        plan=plan,
        is_proved=not found,
        took=round(took, 1),
        enqueued=len(evidence.acknowledged),
        refused_as_duplicates=sum(not each.is_new for each in evidence.acknowledged),
        jobs=len(jobs),
        states=dict(Counter(job.state for job in jobs)),
        ticks=sum(job.queue == "ticks" for job in jobs),
        runs=len(runs),
        rescued=sum(any(error.kind == LOST for error in job.errors) for job in jobs),
        lost=sum(not run.is_wanted and run.over_at is None for run in runs),
        repeated=sum(not run.is_wanted and run.over_at is not None for run in runs),
        stale=sum(
            following.attempt < run.attempt for each in evidence.runs.values() for run, following in pairwise(each)
        ),
        most_attempts=max((job.attempt for job in jobs), default=0),
        blows=dict(Counter(blow.kind for blow in evidence.blows)),
        rescue=_spell(_rescue(blow, evidence.runs) for blow in evidence.blows if blow.kind is Kind.WORKER_KILLED),
        renewal={
            kind: _spell(_renewal(blow, runs) for blow in evidence.blows if blow.kind is kind)
            for kind in (Kind.WORKER_KILLED, Kind.SUPERVISOR_KILLED)
        },
        faults=found,
    )


def log_faults(said: Iterable[Mapping[str, Any]], *, is_dead_expected: bool) -> Iterator[str]:
    """Yield what was logged as an error and is none that the blows or the tasks explain."""
    expected = (*_EXPECTED, _OF_STOPS) if is_dead_expected else _EXPECTED
    for event in said:
        message = str(event["message"])
        if event.get("level") in _GRAVE and not any(each in message for each in expected):
            yield f"logged as an error: {message} {event.get('exception', '')}"


def _rescue(blow: Blow, runs: Mapping[str, list[Run]]) -> float | None:
    """Return when all that this worker had in hand had started elsewhere; None: it had nothing."""
    again = [
        next((each.started_at for each in of_job if each.attempt > run.attempt), None)
        for of_job in runs.values()
        for run in of_job
        if run.worker == blow.pid and not run.is_wanted
    ]
    known = [at for at in again if at is not None]
    return max(known) - blow.at if known else None


def _renewal(blow: Blow, runs: Iterable[Run]) -> float | None:
    first_seen: dict[int, float] = {}
    for run in runs:
        first_seen[run.worker] = min(run.started_at, first_seen.get(run.worker, run.started_at))
    ends = [run.over_at for run in runs if run.over_at is not None and first_seen[run.worker] > blow.at]
    return min(ends) - blow.at if ends else None


def _spell(seconds: Iterable[float | None]) -> Spell:
    known = [each for each in seconds if each is not None]
    if not known:
        return Spell()
    return Spell(count=len(known), median=round(median(known), 2), longest=round(max(known), 2))


def _in_words(spell: Spell) -> str:
    return "none" if spell.median is None else f"{spell.median:.2f} s, {spell.longest:.2f} s ({spell.count})"
