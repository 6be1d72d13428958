"""The report: how long it took until all was well again after each fault, and what was wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from msgspec import Struct
from rich.table import Table

from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from proofs.outage.faults import Fault, Kind
from proofs.soak.evidence import Evidence
from proofs.soak.examination import faults_of
from proofs.soak.raid import Blow
from proofs.soak.runs import LOST, Run
from proofs.verdict import print_verdict, screen

_LIVELY = 10.0
"""Seconds before a fault within which a worker started a job that is counted as there."""
_AFTERMATH = 15.0
"""Seconds after a fault in which the ends of its time may still not be stored."""


class Recovery(Struct, frozen=True, kw_only=True):
    """
    Seconds from the end of a fault, but for those of later ones: until a job started, until the end of one was stored.

    `all_started` is when the last of the workers that lived then had started a job again.
    """

    kind: Kind
    lasted: float
    started: float
    stored: float
    all_started: float


class Report(Struct, frozen=True, kw_only=True):
    """
    The results of the outages.

    Of the runs beyond those needed `lost` broke off with their worker, and the
    ends of `unstored` could not be stored: their worker was killed before the
    database was back.
    """

    seed: int
    is_proved: bool
    took: float
    enqueued: int
    jobs: int
    states: dict[State, int]
    ticks: int
    kills: int
    runs: int
    rescued: int
    lost: int
    unstored: int
    most_attempts: int
    recoveries: list[Recovery]
    faults: list[str]

    def show(self) -> None:
        """Print it for people."""
        table = Table(title=f"outages, seed {self.seed}", title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._rows():
            table.add_row(name, value)
        screen().print(table, self._table_of_recoveries(), sep="\n")
        print_verdict(self.faults)

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "enqueues acknowledged", f"{self.enqueued:,}"
        yield "jobs", f"{self.jobs:,}"
        yield from ((f"  {state}", f"{count:,}") for state, count in self.states.items())
        yield "of these, by the recurring task", f"{self.ticks:,}"
        yield "workers killed", f"{self.kills:,}"
        yield "jobs rescued", f"{self.rescued:,}"
        yield "runs of handlers", f"{self.runs:,}"
        yield "  broken off by a kill and run again", f"{self.lost:,}"
        yield "  over, but killed before it could be stored, and run again", f"{self.unstored:,}"
        yield "most attempts of a job", f"{self.most_attempts}"
        yield "took", f"{self.took:.0f} s"

    def _table_of_recoveries(self) -> Table:
        table = Table(
            title="seconds after the fault was over in which no other was on, median and longest", title_justify="left"
        )
        for name in ("", "times", "lasted", "a job started", "an end was stored", "all workers had started one"):
            table.add_column(name, justify="right" if name else "left")
        for kind in [*Kind, None]:
            some = [each for each in self.recoveries if kind in {None, each.kind}]
            if some:
                table.add_row(
                    "all" if kind is None else kind.value,
                    f"{len(some)}",
                    _in_words(each.lasted for each in some),
                    _in_words(each.started for each in some),
                    _in_words(each.stored for each in some),
                    _in_words(each.all_started for each in some),
                )
        return table


def sum_up(evidence: Evidence, outages: Sequence[Fault], *, faults: Iterable[str], seed: int, took: float) -> Report:
    """Examine the evidence; `faults` are those known already."""
    found = [*faults, *faults_of(evidence)]
    runs = [run for each in evidence.runs.values() for run in each]
    jobs = evidence.jobs.values()
    return Report(
        seed=seed,
        is_proved=not found,
        took=round(took, 1),
        enqueued=len(evidence.acknowledged),
        jobs=len(jobs),
        states=dict(Counter(job.state for job in jobs)),
        ticks=sum(job.queue == "ticks" for job in jobs),
        kills=len(evidence.blows),
        runs=len(runs),
        rescued=sum(any(error.kind == LOST for error in job.errors) for job in jobs),
        lost=sum(not run.is_wanted and run.over_at is None for run in runs),
        unstored=sum(not run.is_wanted and run.over_at is not None for run in runs),
        most_attempts=max((job.attempt for job in jobs), default=0),
        recoveries=_recoveries(outages, runs, jobs, boot=evidence.boot, blows=evidence.blows),
        faults=found,
    )


def unstored(
    runs: Mapping[str, Sequence[Run]], outages: Sequence[Fault], blows: Sequence[Blow]
) -> set[tuple[str, int]]:
    """Return the runs that were over while the store was away, or hardly back, when their worker was killed."""
    killed = {blow.pid: blow.at for blow in blows}
    return {
        (run.job, run.attempt)
        for each in runs.values()
        for run in each
        if not run.is_wanted
        and run.over_at is not None
        and run.worker in killed
        and any(
            fault.began <= killed[run.worker] <= fault.ended + _AFTERMATH and run.over_at >= fault.began
            for fault in outages
        )
    }


def _recoveries(
    outages: Sequence[Fault], runs: Sequence[Run], jobs: Iterable[Job], *, boot: float, blows: Sequence[Blow]
) -> list[Recovery]:
    killed = {blow.pid: blow.at for blow in blows}
    starts = sorted(run.started_at for run in runs)
    ends = sorted(job.finished_at.timestamp() - boot for job in jobs if job.finished_at is not None)
    by_worker: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        by_worker[run.worker].append(run.started_at)
    recoveries = []
    for fault in outages:
        survivors = [
            min(later)
            for worker, moments in by_worker.items()
            if any(fault.began - _LIVELY <= at <= fault.began for at in moments)
            and (later := [at for at in moments if at > fault.ended])
            and killed.get(worker, min(later) + 1) > min(later)
        ]
        until = partial(_seconds, outages, fault.ended)
        recoveries.append(
            Recovery(
                kind=fault.kind,
                lasted=round(fault.ended - fault.began, 3),
                started=until(_first_after(fault.ended, starts)),
                stored=until(_first_after(fault.ended, ends)),
                all_started=until(max(survivors, default=fault.ended)),
            )
        )
    return recoveries


def _seconds(outages: Sequence[Fault], since: float, until: float) -> float:
    """Return the seconds between two moments in which no fault was on: the next may come before all are back."""
    faulty = sum(max(0.0, min(each.ended, until) - max(each.began, since)) for each in outages)
    return round(until - since - faulty, 3)


def _first_after(moment: float, sorted_moments: Sequence[float]) -> float:
    return next((at for at in sorted_moments if at > moment), moment)


def _in_words(seconds: Iterable[float]) -> str:
    known = list(seconds)
    return f"{median(known):.2f}, {max(known):.2f}"
