"""The soak's judgement of runs that the jobs did not need: what a blow explains, and that nothing else passes."""

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from deeper_tasks.backends.protocol import Counts
from deeper_tasks.domain.job import AttemptError, Job
from deeper_tasks.domain.state import State

ROOT = Path(__file__).parents[3]
BOOT = datetime(2026, 1, 1, tzinfo=UTC)
KILLED = 100.0
"""When the worker is hit."""
SLOTS = 2
WORKER = 41
NUMBERS = count(1)


@pytest.fixture(autouse=True)
def proofs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def at(seconds):
    return BOOT + timedelta(seconds=seconds)


def ran(*, over=None, lost=None, stored=None):
    """Return a job, and the first run of it: lost and run again elsewhere, or stored."""
    from proofs.soak.runs import Run

    job = Job(
        id=f"job-{next(NUMBERS)}",
        state=State.COMPLETED,
        task="nap",
        arguments=None,
        queue="default",
        priority=0,
        attempt=1 if lost is None else 2,
        max_attempts=9,
        inserted_at=BOOT,
        scheduled_at=BOOT,
        finished_at=at(lost + 1 if stored is None else stored),
        errors=() if lost is None else (AttemptError(attempt=1, at=at(lost), kind="WorkerLost", message=""),),
    )
    run = Run(
        job=job.id,
        attempt=1,
        worker=WORKER,
        started_at=KILLED - 5,
        over_at=over,
        has_returned=over is not None,
        is_wanted=lost is None,
    )
    return job, run


def broken_off(times, **options):
    return [ran(lost=KILLED + 1, **options) for _ in range(times)]


def over(times, *, before=0.1, lost=KILLED + 1):
    return [ran(over=KILLED - before, lost=lost) for _ in range(times)]


def faults(*work, kind="worker killed", excused=()):
    from proofs.soak.evidence import Evidence
    from proofs.soak.losses import faults_of_losses
    from proofs.soak.raid import Blow, Kind

    evidence = Evidence(
        jobs={job.id: job for job, _ in work},
        runs={job.id: [run] for job, run in work},
        acknowledged=(),
        blows=[Blow(kind=Kind(kind), pid=WORKER, at=KILLED), Blow(kind=Kind.SUPERVISOR_KILLED, pid=1, at=KILLED)],
        counts=Counts(queues={}, nodes=(), now=BOOT),
        schedule=None,
        unique_keys=0,
        slots=SLOTS,
        boot=BOOT.timestamp(),
        excused=frozenset((job.id, 1) for job, _ in excused),
    )
    return list(faults_of_losses(evidence))


def test_a_kill_takes_the_runs_in_all_slots_and_ends_that_no_write_has_taken():
    stored = [ran(over=KILLED - 2, stored=KILLED - 0.2)]
    assert faults(*stored, *broken_off(SLOTS), *over(SLOTS)) == []


def test_more_runs_under_way_than_slots_are_too_many():
    [fault] = faults(*broken_off(SLOTS + 1))
    assert fault == f"worker {WORKER} had {SLOTS + 1} runs under way at its blow, with {SLOTS} slots"


def test_more_ends_on_their_way_than_kills_times_slots_are_too_many():
    [fault] = faults(*over(SLOTS + 1))
    assert fault.startswith(f"{SLOTS + 1} runs that were over ran again")


def test_a_run_that_was_lost_before_its_worker_was_hit_is_explained_by_no_blow():
    [(job, run)] = over(1, before=50, lost=KILLED - 10)
    assert faults((job, run)) == [f"attempt 1 of job {job.id} was lost by worker {WORKER} without a blow to that"]


def test_an_end_is_not_on_its_way_once_its_worker_has_written_later_ones_twice():
    later = [ran(over=KILLED - 3, stored=KILLED - 3 + number) for number in range(2)]
    assert faults(*over(1, before=3.5), *later) == []
    [fault] = faults(*over(1, before=5), *later)
    assert "was over 5.000 s before the blow" in fault
    assert "written 2 times since" in fault


def test_a_stopped_worker_runs_to_their_ends_what_it_had_in_hand():
    assert faults(*broken_off(SLOTS, over=KILLED + 5), *over(SLOTS), kind="worker stopped") == []
    [fault] = faults(*broken_off(SLOTS + 1, over=KILLED + 5), kind="worker stopped")
    assert "runs under way at its blow" in fault


def test_ends_that_could_not_be_written_count_for_no_blow():
    unwritten = over(SLOTS + 1, before=5)
    later = [ran(over=KILLED - 3, stored=KILLED - 3 + number) for number in range(2)]
    assert faults(*unwritten, *later, excused=unwritten) == []
