"""The examination: what must hold when all is over, of the store, the journal and the acknowledgements together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from deeper_tasks.domain.ids import derived_id
from deeper_tasks.domain.job import Job
from deeper_tasks.domain.state import State
from proofs.soak.app import ENDS, fail_first, follower_of, lead, tick
from proofs.soak.evidence import CLOCKS_DIFFER, Evidence
from proofs.soak.losses import faults_of_losses
from proofs.soak.raid import Kind
from proofs.soak.runs import LOST, Run

_SECOND = timedelta(seconds=1)
_BY_DESIGN = {"WantedError", "Fail"}


def faults_of(evidence: Evidence) -> Iterator[str]:
    """Yield, a sentence each, what should not be."""
    yield from (f"the database is damaged: {line}" for line in evidence.integrity if line != "ok")
    yield from _missing_jobs(evidence)
    for job in evidence.jobs.values():
        yield from _wrong_end(job, evidence)
        yield from _early_end(job, evidence)
    yield from _wrong_runs(evidence)
    yield from faults_of_losses(evidence)
    yield from _early_starts(evidence)
    yield from _shared_keys(evidence)
    yield from _wrong_ticks(evidence)
    yield from _wrong_counters(evidence)


def _missing_jobs(evidence: Evidence) -> Iterator[str]:
    acknowledged = {each.job for each in evidence.acknowledged}
    yield from (f"job {job} was acknowledged and is not there" for job in acknowledged - evidence.jobs.keys())
    leads = [job for job in evidence.jobs.values() if job.task == lead.name]
    followers = {follower_of(job.id) for job in leads}
    completed = {follower_of(job.id) for job in leads if job.state is State.COMPLETED}
    yield from (f"job {job} was enqueued by a job and is not there" for job in completed - evidence.jobs.keys())
    yield from (f"the runs of job {job} are there and it is not" for job in evidence.runs.keys() - evidence.jobs.keys())
    ticks = {job.id for job in evidence.jobs.values() if job.task == tick.name}
    yield from (
        f"no producer or task enqueued job {job}" for job in evidence.jobs.keys() - acknowledged - followers - ticks
    )


def _wrong_end(job: Job, evidence: Evidence) -> Iterator[str]:
    runs = evidence.runs.get(job.id, [])
    expected = ENDS.get(job.task, State.COMPLETED)
    if job.state is not expected:
        yield f"{job.task} {job.id} is {job.state}, not {expected}, at attempt {job.attempt} of {job.max_attempts}"
        return
    if job.state is State.COMPLETED and not _returned(runs, job.attempt):
        yield f"{job.task} {job.id} completed by attempt {job.attempt}, whose handler never returned"
    errors = job.attempt - 1 if job.state is State.COMPLETED else job.attempt
    if [error.attempt for error in job.errors] != list(range(1, errors + 1)):
        yield f"{job.task} {job.id} is {job.state} at attempt {job.attempt} with errors of {job.errors}"
    interruptions = evidence.interruptions if job.task == lead.name else frozenset()
    wanted = [error for error in job.errors if error.kind != LOST and error.kind not in interruptions]
    if wanted and (job.task not in {*ENDS, fail_first.name} or {error.kind for error in wanted} - _BY_DESIGN):
        yield f"{job.task} {job.id} failed otherwise than by design: {wanted}"


def _early_end(job: Job, evidence: Evidence) -> Iterator[str]:
    """Find an end that was written by another than the attempt that the store says ended."""
    for run in evidence.runs.get(job.id, []):
        # A job that was discarded because its worker looked dead may go on there.
        if job.state is State.COMPLETED and job.finished_at and run.attempt == job.attempt and run.over_at is not None:
            early = run.over_at + evidence.boot - job.finished_at.timestamp()
            if early > CLOCKS_DIFFER:
                yield f"{job.task} {job.id} is {job.state} {early:.3f} s before the handler of its attempt was over"


def _returned(runs: list[Run], attempt: int) -> bool:
    return any(run.attempt == attempt and run.has_returned for run in runs)


def _wrong_runs(evidence: Evidence) -> Iterator[str]:
    killed = {blow.pid: blow.at for blow in evidence.blows if blow.kind is Kind.WORKER_KILLED}
    stopped = {blow.pid for blow in evidence.blows if blow.kind is Kind.WORKER_STOPPED}
    for job, runs in evidence.runs.items():
        attempts = Counter(run.attempt for run in runs)
        yield from (
            f"attempt {each} of job {job} was run {count} times" for each, count in attempts.items() if count > 1
        )
        for run, following in pairwise(runs):
            # A stopped worker does not know that its job was given to another, and runs it to its end.
            if run.worker not in stopped and following.started_at < _over(run, killed):
                yield f"attempts {run.attempt} and {following.attempt} of job {job} ran at the same time"
            if following.attempt < run.attempt and following.worker not in stopped:
                yield f"attempt {following.attempt} of job {job} ran after attempt {run.attempt}"


def _over(run: Run, killed: dict[int, float]) -> float:
    """Return since when a run certainly is over, as far as that is known."""
    return killed.get(run.worker, run.started_at) if run.over_at is None else run.over_at


def _early_starts(evidence: Evidence) -> Iterator[str]:
    for each in evidence.acknowledged:
        runs = evidence.runs.get(each.job, [])
        if each.is_new and runs and runs[0].started_at < each.not_before - CLOCKS_DIFFER:
            yield f"job {each.job} started {each.not_before - runs[0].started_at:.3f} s before it was due"


def _shared_keys(evidence: Evidence) -> Iterator[str]:
    if evidence.unique_keys:
        yield f"{evidence.unique_keys} unique keys are still held, though all jobs have ended"
    stopped = {blow.pid for blow in evidence.blows if blow.kind is Kind.WORKER_STOPPED}
    holders: dict[str, set[str]] = defaultdict(set)
    for each in evidence.acknowledged:
        if each.key is not None:
            holders[each.key].add(each.job)
    for key, jobs in holders.items():
        times = [
            (runs[0].started_at, max(run.over_at or run.started_at for run in runs), job)
            for job in jobs
            if (runs := [run for run in evidence.runs.get(job, []) if run.worker not in stopped])
        ]
        for (_, over_at, one), (started_at, _, other) in pairwise(sorted(times)):
            if started_at < over_at:
                yield f"jobs {one} and {other} had the unique key {key} at the same time"


def _wrong_ticks(evidence: Evidence) -> Iterator[str]:
    fired = {job.id for job in evidence.jobs.values() if job.task == tick.name}
    entry = evidence.schedule
    if entry is None or entry.last_run is None:
        yield "the recurring task never fired"
    elif fired != {derived_id(tick.name, entry.last_run - number * _SECOND) for number in range(len(fired))}:
        yield f"the {len(fired)} jobs of the recurring task are not one for each due time until {entry.last_run}"


def _wrong_counters(evidence: Evidence) -> Iterator[str]:
    today = evidence.counts.now.date()
    by_state = Counter((job.queue, job.state) for job in evidence.jobs.values())
    ended = Counter(
        (job.queue, job.state)
        for job in evidence.jobs.values()
        if job.finished_at is not None and job.finished_at.date() == today
    )
    for name, queue in evidence.counts.queues.items():
        for state in State:
            seen = (queue.by_state.get(state, 0), queue.ended_today.get(state, 0))
            counted = (by_state[name, state], ended[name, state])
            if seen != counted:
                yield f"queue {name!r} counts {seen} jobs {state} (in all, today), and there are {counted}"
    yield from (
        f"queue {queue!r} is not counted" for queue in {name for name, _ in by_state} - {*evidence.counts.queues}
    )
