"""The losses: runs that the jobs did not need. A blow to its worker must explain each, and its moment what was lost."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from deeper_tasks.domain.state import State
from proofs.soak.evidence import CLOCKS_DIFFER, Evidence
from proofs.soak.raid import Blow, Kind
from proofs.soak.runs import LOST, Run

_WAY_TO_THE_SETTLER = 1.0
"""
Seconds in which an end gets from a thread or a process to the worker's loop, however loaded the machine is.

Measured on two cores with twenty processes that wanted them: 0.06.
"""
_WRITES = 2
"""A write may have been gathered before an end came. The next begins after it, and takes all that waits."""


class Loss(Struct, frozen=True, kw_only=True):
    """A run whose job was given to another worker, and the blow that its own worker had suffered by then."""

    run: Run
    blow: Blow

    @property
    def was_under_way(self) -> bool:
        """Whether the blow broke the run off; the others were over, and their ends not yet stored."""
        # A stopped worker goes on later, and runs to their ends what it had in hand.
        is_stopped = self.blow.kind is Kind.WORKER_STOPPED
        return self.run.over_at is None or (is_stopped and self.run.over_at > self.blow.at)


def faults_of_losses(evidence: Evidence) -> Iterator[str]:
    """
    Yield, a sentence each, what the blows do not explain.

    A blow takes the jobs that the worker had in hand. Of runs under way there are as many as it has slots. Ends on
    their way to the store are of no certain number: each gave its slot to the next job at once, and all that come
    during one write wait for the next. Eleven were seen on a slow disk. But they are the last ends of their worker,
    and there are few of them: at a moment at random one in twenty-five times any, less than one in a thousand times
    as many as slots.
    """
    losses = []
    for loss in _losses(evidence):
        if isinstance(loss, Loss):
            losses.append(loss)
        else:
            yield f"attempt {loss.attempt} of job {loss.job} was lost by worker {loss.worker} without a blow to that"
    yield from _too_many(losses, evidence)
    yield from _passed_over(losses, evidence)


def _losses(evidence: Evidence) -> Iterator[Loss | Run]:
    """Yield the losses; a run for which there is no blow as it is."""
    blows: dict[int, list[Blow]] = defaultdict(list)
    for blow in evidence.blows:
        if blow.kind is not Kind.SUPERVISOR_KILLED:
            blows[blow.pid].append(blow)
    lost = {
        (job.id, error.attempt): error.at.timestamp() - evidence.boot
        for job in evidence.jobs.values()
        for error in job.errors
        if error.kind == LOST
    }
    for run in _all_runs(evidence):
        if not run.is_wanted:
            at = lost.get((run.job, run.attempt), float("inf"))
            before = [blow for blow in blows[run.worker] if blow.at <= at + CLOCKS_DIFFER]
            yield Loss(run=run, blow=before[-1]) if before else run


def _too_many(losses: Sequence[Loss], evidence: Evidence) -> Iterator[str]:
    under_way = Counter(loss.blow for loss in losses if loss.was_under_way)
    for blow, count in under_way.items():
        if count > evidence.slots:
            yield f"worker {blow.pid} had {count} runs under way at its blow, with {evidence.slots} slots"
    over = sum(not loss.was_under_way and not _is_excused(loss, evidence) for loss in losses)
    bound = sum(blow.kind is not Kind.SUPERVISOR_KILLED for blow in evidence.blows) * evidence.slots
    if over > bound:
        yield f"{over} runs that were over ran again, more than the kills and stops times the slots, {bound}"


def _passed_over(losses: Sequence[Loss], evidence: Evidence) -> Iterator[str]:
    """Find an end that was never sent: its worker had the store write those of others since."""
    writes = _writes(evidence)
    for loss in losses:
        run = loss.run
        if run.over_at is None or loss.was_under_way or _is_excused(loss, evidence):
            continue
        moments = writes.get(run.worker, [])
        since = bisect_right(moments, loss.blow.at) - bisect_right(moments, run.over_at + _WAY_TO_THE_SETTLER)
        if since >= _WRITES:
            early = loss.blow.at - run.over_at
            yield (
                f"attempt {run.attempt} of job {run.job} was over {early:.3f} s before the blow to worker "
                f"{run.worker}, which had ends of others written {since} times since, and not this one"
            )


def _writes(evidence: Evidence) -> Mapping[int, Sequence[float]]:
    """Return when each worker had ends written, in order."""
    stored = {
        (job.id, error.attempt): error.at.timestamp() for job in evidence.jobs.values() for error in job.errors
    } | {
        (job.id, job.attempt): job.finished_at.timestamp()
        for job in evidence.jobs.values()
        if job.state is State.COMPLETED and job.finished_at is not None
    }
    writes: dict[int, set[float]] = defaultdict(set)
    for run in _all_runs(evidence):
        if run.is_wanted:
            writes[run.worker].add(stored[run.job, run.attempt] - evidence.boot)
    return {worker: sorted(moments) for worker, moments in writes.items()}


def _all_runs(evidence: Evidence) -> Iterator[Run]:
    return (run for runs in evidence.runs.values() for run in runs)


def _is_excused(loss: Loss, evidence: Evidence) -> bool:
    return (loss.run.job, loss.run.attempt) in evidence.excused
