"""The life cycle of jobs: real stores against a simple model of it, driven along random paths."""

import asyncio
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.postgres import PostgresBackend
from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, Node, QueueSettings, Retention
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ErrorReport, NewJob
from deeper_tasks.domain.schedule import MissedRuns, Overlap, Schedule, plan_firing, resumed_run
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS
from deeper_tasks.domain.settlement import End, Report, Settlement
from deeper_tasks.domain.state import MAY_BE_RESCHEDULED, TERMINAL, State, is_allowed
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import DuplicateJobError, NodeLostError
from deeper_tasks.testing.conformance.builders import NOW, new_job
from servers.installation import installations
from servers.store import Store, new_store

QUEUES = ("red", "blue")
queues = st.sampled_from(("red", "red", "red", "blue"))
BOOM = ErrorReport(kind="ValueError", message="boom")
# The clock moves by whole seconds and all limits end on half ones, so that nothing ever falls on a limit.
HALF = timedelta(seconds=0.5)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@dataclass
class Expected:
    """A job as it should be."""

    id: JobId
    queue: str
    priority: int
    due: datetime
    original_max: int
    max_attempts: int
    state: State
    expires_at: datetime | None
    key: str | None
    attempt: int = 0
    errors: int = 0
    token: ClaimToken | None = None
    led_to: State | None = None
    node: NodeId | None = None
    has_started: bool = False
    cancel_requested: str | None = None
    finished_at: datetime | None = None
    unknown_since: datetime | None = None
    unfit_since: datetime | None = None
    is_quarantined: bool = False
    earlier_attempts: int = 0

    @property
    def place(self):
        return (self.priority, self.due, self.id)


@dataclass
class Model:
    """What a store should know: the rules of the life cycle in their plainest form."""

    now: datetime = NOW
    jobs: dict[JobId, Expected] = field(default_factory=dict)
    holds: dict[str, tuple[JobId, datetime | None]] = field(default_factory=dict)
    beats: dict[NodeId, int] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def in_state(self, *states: State) -> list[Expected]:
        return [job for job in self.jobs.values() if job.state in states]

    def held_by(self, node: NodeId) -> list[Expected]:
        return [job for job in self.in_state(State.RUNNING) if job.node == node]

    def holder(self, key: str) -> JobId | None:
        job_id, until = self.holds.get(key, (None, None))
        return None if until is not None and until < self.now else job_id

    def insert(self, new: NewJob) -> tuple[JobId, bool]:
        if new.request_id in self.jobs:
            return new.request_id, False
        if new.unique is not None:
            holder = self.holder(new.unique.key)
            if holder is not None:
                return holder, False
            until = None if new.unique.period is None else self.now + new.unique.period
            self.holds[new.unique.key] = (new.request_id, until)
        due = max(self.now, self.now + new.delay if new.due is None else new.due)
        self.jobs[new.request_id] = Expected(
            id=new.request_id,
            queue=new.spec.queue,
            priority=new.spec.priority,
            due=due,
            original_max=new.spec.max_attempts,
            max_attempts=new.spec.max_attempts,
            state=State.PENDING if due == self.now else State.SCHEDULED,
            expires_at=None if new.spec.expires_in is None else due + new.spec.expires_in,
            key=None if new.unique is None else new.unique.key,
        )
        return new.request_id, True

    def claim(
        self, queue: str, *, limit: int, slots: int, node: NodeId, token: ClaimToken, quarantined: int
    ) -> list[Expected]:
        fit = [
            job
            for job in self.in_state(State.PENDING)
            if job.queue == queue and (job.expires_at is None or job.expires_at > self.now)
        ]
        fit.sort(key=lambda job: job.place)
        admitted = [job for job in fit if job.is_quarantined][:quarantined]
        taken = [job for job in fit if not job.is_quarantined or job in admitted][:limit]
        for index, job in enumerate(taken):
            job.state, job.node, job.token = State.RUNNING, node, token
            job.has_started = index < slots and not job.is_quarantined
            job.attempt += 1
        return taken

    def settle(
        self, job: Expected, end: End, *, delay: timedelta, has_error: bool, ran: bool, mark: str | None
    ) -> State:
        state = {
            End.COMPLETE: State.COMPLETED,
            End.RETRY: State.RETRYABLE,
            End.SNOOZE: State.SCHEDULED,
            End.RELEASE: State.SCHEDULED if delay else State.PENDING,
            End.FAIL: State.FAILED,
            End.DISCARD: State.DISCARDED,
            End.CANCEL: State.CANCELLED,
        }[end]
        if job.cancel_requested is not None and end is not End.COMPLETE:
            state = State.CANCELLED
        job.errors += has_error
        if ran:
            job.unknown_since, job.unfit_since, job.is_quarantined = None, None, False
        if mark == "is_task_unknown":
            job.unknown_since = job.unknown_since or self.now
        if mark == "is_unfit":
            job.unfit_since = job.unfit_since or self.now
        job.is_quarantined |= mark == "is_process_lost"
        if end in {End.SNOOZE, End.RELEASE} and state is not State.CANCELLED:
            job.attempt -= 1
        if state in {State.SCHEDULED, State.RETRYABLE}:
            job.due = self.now + delay
        self.move(job, state)
        job.led_to = state
        return state

    def move(self, job: Expected, state: State) -> None:
        job.state, job.node = state, None
        job.finished_at = None
        if state in TERMINAL:
            job.finished_at = self.now
            self.release(job)

    def release(self, job: Expected) -> None:
        if job.key is not None and self.holds.get(job.key) == (job.id, None):
            del self.holds[job.key]

    def due_jobs(self) -> list[Expected]:
        return [job for job in self.in_state(State.SCHEDULED, State.RETRYABLE) if job.due <= self.now]

    def expired(self) -> list[Expected]:
        waiting = self.in_state(State.PENDING, State.RETRYABLE)
        return [job for job in waiting if job.expires_at is not None and job.expires_at < self.now]

    def rescue(self, job: Expected) -> State:
        is_last = job.attempt >= job.max_attempts
        is_spared = not job.has_started and (is_last or job.attempt > 1)
        state = State.DISCARDED if is_last and job.has_started else State.PENDING
        if job.cancel_requested is not None:
            state = State.CANCELLED
        job.attempt -= is_spared
        job.errors += not is_spared
        job.is_quarantined |= job.has_started
        job.token = None
        self.move(job, state)
        return state

    def retry(self, job: Expected) -> None:
        self.move(job, State.PENDING)
        job.max_attempts = job.attempt + job.original_max
        job.earlier_attempts = job.attempt
        job.due, job.expires_at, job.cancel_requested = self.now, None, None
        job.unknown_since = job.unfit_since = None
        if job.key is not None:
            holder = self.holder(job.key)
            if holder is None:
                self.holds[job.key] = (job.id, None)
            elif holder != job.id:
                job.key = None

    def reschedule(self, job: Expected, due: datetime) -> None:
        shift = due - job.due
        if job.expires_at is not None and (due > job.due or job.expires_at > job.due):
            job.expires_at += shift
        self.put_to(job, due)

    def put_to(self, job: Expected, due: datetime) -> None:
        job.due = due
        if due == self.now:
            job.state = State.PENDING
        elif job.state is State.PENDING:
            job.state = State.SCHEDULED

    def forget(self, job: Expected) -> None:
        if job.key is not None and job.state is not State.COMPLETED and self.holds.get(job.key, (None,))[0] == job.id:
            del self.holds[job.key]
        del self.jobs[job.id]


keys = st.sampled_from(
    [
        None,
        None,
        Unique(key="given:done"),
        Unique(key="given:both"),
        Unique(key="given:both", period=seconds(90.5)),
        Unique(key="given:timed", period=seconds(45.5)),
    ]
)
delays = st.sampled_from([seconds(0), seconds(0), seconds(7), seconds(60)])
new_jobs = st.builds(
    dict,
    queue=queues,
    priority=st.integers(-1, 1),
    max_attempts=st.integers(1, 3),
    delay=delays,
    expires_in=st.sampled_from([None, None, seconds(30.5), seconds(200.5)]),
    unique=keys,
)
ends = st.sampled_from([*End, End.FAIL, End.FAIL, End.RETRY, End.RETRY, End.RELEASE])
notes = st.tuples(st.booleans(), st.sampled_from([None, None, "is_task_unknown", "is_unfit", "is_process_lost"]))
"""Whether the handler ran, and what the settlement marks."""
some = st.integers(0, 10**6)
subsets = st.integers(1, 2**12 - 1)


def pick(things, number):
    """Choose one of several by a number."""
    things = list(things)
    return things[number % len(things)]


def pick_some(things, bits):
    """Choose some of several by the bits of a number; at least one."""
    things = list(things)
    chosen = [thing for index, thing in enumerate(things) if bits >> (index % 12) & 1]
    return chosen or things[:1]


def shown(job):
    """What a store says of a job, as far as the model foresees it."""
    life = (job.state, job.node, job.attempt, job.max_attempts, len(job.errors), job.cancel_requested)
    return (*life, job.priority, job.scheduled_at, job.expires_at, job.finished_at)


def foreseen(job):
    """The same of a job of the model."""
    life = (job.state, job.node, job.attempt, job.max_attempts, job.errors, job.cancel_requested)
    return (*life, job.priority, job.due, job.expires_at, job.finished_at)


def claimed(job):
    """What a worker is told of a job: by a store, or by the model."""
    earlier = (job.unknown_since, job.unfit_since, job.is_quarantined, job.earlier_attempts)
    return (job.id, job.attempt, job.max_attempts, job.has_started, *earlier)


def told(moved):
    """What a store tells of a job that it moved for another than its worker."""
    return (moved.id, moved.queue, moved.attempt, moved.cancel_reason, moved.state)


def about(job):
    """The same of a job of the model, but for where it is moved to."""
    return (job.id, job.queue, job.attempt, job.cancel_requested)


class LifeCycle(RuleBasedStateMachine):
    """One call a step, its answer as the model predicts it; after each step every job is compared."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model()
        self.seen: dict[JobId, State] = {}
        self.sent: list[Settlement] = []
        self.is_retrying = False
        self.numbers = count()
        self.schedule: Schedule | None = None
        self.next_run: datetime | None = None
        self.made: list[JobId] = []
        self.backend = self.make_backend()
        self.run(self.backend.open())

    def make_backend(self) -> Backend:
        raise NotImplementedError

    def run(self, call):
        return self.loop.run_until_complete(call)

    def teardown(self):
        self.run(self.backend.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    @property
    def now(self):
        return self.model.now

    def alive(self):
        return sorted(self.model.beats)

    # produce

    @initialize(fields=st.lists(new_jobs, min_size=8, max_size=8))
    def start(self, fields):
        self.join()
        self.join()
        self.insert(fields)

    @rule(fields=st.lists(new_jobs, min_size=2, max_size=5))
    def insert(self, fields):
        jobs = [new_job(**one) for one in fields]
        answers = self.run(self.backend.insert(jobs, now=self.now))
        assert [(answer.id, answer.is_new) for answer in answers] == [self.model.insert(job) for job in jobs]

    @precondition(lambda self: self.model.jobs)
    @rule(which=some)
    def insert_again(self, which):
        known = pick(self.model.jobs.values(), which)
        [answer] = self.run(self.backend.insert([new_job(request_id=known.id)], now=self.now))
        assert (answer.id, answer.is_new) == (known.id, False)
        with pytest.raises(DuplicateJobError):
            self.run(self.backend.insert([new_job(), new_job(request_id=known.id, arguments="[[1],{}]")], now=self.now))

    # time

    @rule(by=st.sampled_from([1, 1, 5, 7, 10, 40, 60, 100, 400]))
    def pass_time(self, by):
        self.model.now += seconds(by)

    # consume

    @precondition(lambda self: len(self.model.beats) < 3)
    @rule()
    def join(self):
        number = next(self.numbers)
        node = Node(
            id=NodeId(f"node-{number:06}"), name="n", host="h", scope="s", pid=1, pid_started=str(number), queues={}
        )
        self.run(self.backend.register(node, now=self.now))
        self.model.beats[node.id] = 0

    @precondition(lambda self: self.model.beats)
    @rule(which=some, queue=queues, limit=st.integers(1, 5), slots=st.integers(0, 3), quarantined=st.integers(0, 3))
    def claim(self, which, queue, limit, slots, quarantined):
        node, token = pick(self.alive(), which), ClaimToken(f"token-{next(self.numbers)}")
        call = {"limit": limit, "slots": slots, "node": node, "token": token, "quarantined": quarantined}
        claim = self.run(self.backend.claim(queue, **call, now=self.now))
        taken = [] if queue in self.model.paused else self.model.claim(queue, **call)
        assert [job.token for job in claim.jobs] == [token] * len(taken)
        assert list(map(claimed, claim.jobs)) == list(map(claimed, taken))
        if taken:
            assert self.run(self.backend.claim(queue, **call, now=self.now)) == claim

    @precondition(lambda self: self.model.in_state(State.RUNNING))
    @rule(bits=subsets, end=ends, delay=delays, has_error=st.booleans(), note=notes)
    def settle(self, bits, end, delay, has_error, note):
        ran, mark = note
        jobs = pick_some(self.model.in_state(State.RUNNING), bits)
        error = BOOM if has_error else None
        fields = {"end": end, "delay": delay, "error": error, "ran_for": HALF if ran else None}
        marked = {} if mark is None else {mark: True}
        sent = [Settlement(id=job.id, token=job.token, **fields, **marked) for job in jobs]
        stale = Settlement(id=jobs[0].id, token=ClaimToken("never"), end=End.FAIL)
        settled = self.run(self.backend.settle([sent[0], stale, *sent, sent[-1]], now=self.now))
        told = {"delay": delay, "has_error": has_error, "ran": ran, "mark": mark}
        expected = {job.id: self.model.settle(job, end, **told) for job in jobs}
        assert Counter((one.id, one.state) for one in settled) == Counter(
            (job.id, expected[job.id]) for job in (jobs[0], *jobs, jobs[-1])
        )
        self.sent.extend(sent)

    @precondition(lambda self: self.sent)
    @rule(which=some)
    def settle_again(self, which):
        settlement = pick(self.sent, which)
        job = self.model.jobs.get(settlement.id)
        is_answered = job is not None and job.token == settlement.token
        settled = self.run(self.backend.settle([settlement], now=self.now))
        assert [(one.id, one.state) for one in settled] == ([(job.id, job.led_to)] if is_answered else [])

    @precondition(lambda self: self.model.in_state(State.RUNNING))
    @rule(which=some)
    def report_start(self, which):
        job = pick(self.model.in_state(State.RUNNING), which)
        reports = [Report(id=job.id, token=ClaimToken("never")), Report(id=job.id, token=job.token, has_started=True)]
        assert self.run(self.backend.report(reports, now=self.now)) == [job.id]
        job.has_started = True

    @rule()
    def beat(self):
        for node in self.alive():
            beat = self.run(self.backend.beat(node, now=self.now))
            self.model.beats[node] += 1
            held = self.model.held_by(node)
            assert beat.held == {job.id: job.token for job in held}
            assert beat.cancels == {job.id: job.cancel_requested for job in held if job.cancel_requested is not None}
            assert beat.paused == self.model.paused

    @precondition(lambda self: self.model.beats)
    @rule(which=some)
    def leave(self, which):
        node = pick(self.alive(), which)
        self.run(self.backend.deregister(node))
        if not self.model.held_by(node):
            del self.model.beats[node]

    # maintain

    @rule()
    def promote(self):
        promotion = self.run(self.backend.promote(now=self.now))
        due = self.model.due_jobs()
        for job in due:
            self.model.move(job, State.PENDING)
        assert (promotion.count, promotion.queues) == (len(due), {job.queue for job in due})
        waiting = self.model.in_state(State.SCHEDULED, State.RETRYABLE)
        following = min((job.due - self.now for job in waiting), default=None)
        assert promotion.next_due_in == following

    @rule()
    def expire(self):
        expired = self.run(self.backend.expire(now=self.now))
        jobs = self.model.expired()
        assert {told(one) for one in expired} == {(*about(job), State.FAILED) for job in jobs}
        for job in jobs:
            job.errors += 1
            self.model.move(job, State.FAILED)

    @precondition(lambda self: self.model.beats)
    @rule(which=some, is_late=st.booleans())
    def rescue(self, which, is_late):
        node = pick(self.alive(), which)
        [record] = [record for record in self.run(self.backend.nodes()) if record.node.id == node]
        if is_late:
            self.run(self.backend.beat(node, now=self.now))
            self.model.beats[node] += 1
        rescue = self.run(self.backend.rescue(node, beat=record.beat, now=self.now))
        assert rescue.is_finished
        held = [] if is_late else self.model.held_by(node)
        self.sent.extend(Settlement(id=job.id, token=job.token, end=End.COMPLETE) for job in held)
        expected = {(*about(job), self.model.rescue(job)) for job in held}
        assert {told(one) for one in rescue.jobs} == expected
        if not is_late:
            del self.model.beats[node]
            with pytest.raises(NodeLostError):
                self.run(self.backend.beat(node, now=self.now))

    @rule()
    def prune(self):
        retention = Retention(completed=seconds(300.5), failed=seconds(900.5))
        pruned = self.run(self.backend.prune(retention, now=self.now))
        old = [
            job
            for job in self.model.in_state(*TERMINAL)
            if job.finished_at + (retention.completed if job.state is State.COMPLETED else retention.failed) < self.now
        ]
        assert pruned == len(old)
        for job in old:
            self.model.forget(job)

    # schedules

    @rule(expression=st.sampled_from(["*/5 * * * *", "@every 40s"]), overlap=st.sampled_from(Overlap), unique=keys)
    def put_schedule(self, expression, overlap, unique):
        recurrence = parse_recurrence(expression)
        spec = new_job(queue=QUEUES[0], max_attempts=2).spec
        schedule = Schedule(
            name="report",
            recurrence=recurrence,
            spec=spec,
            unique=unique,
            missed_runs=MissedRuns.ONCE,
            overlap=overlap,
        )
        entry = self.run(self.backend.put_schedule(schedule, now=self.now))
        if self.schedule is None or self.schedule.recurrence != recurrence:
            self.next_run = recurrence.next_after(self.now)
        self.schedule = schedule
        assert (entry.next_run, entry.schedule) == (self.next_run, schedule)

    @precondition(lambda self: self.schedule is not None)
    @rule()
    def fire(self):
        [entry] = self.run(self.backend.schedules(now=self.now)).entries
        assert entry.next_run == self.next_run
        firing = plan_firing(entry, now=self.now)
        assert (firing is None) == (self.next_run > self.now)
        if firing is None:
            return
        assert self.run(self.backend.fire(firing, now=self.next_run - HALF)) is None
        fired = self.run(self.backend.fire(firing, now=self.now))
        mine = [self.model.jobs.get(job_id) for job_id in self.made[-MAX_KEPT_RUNS:]]
        is_under_way = any(job is not None and job.state not in TERMINAL for job in mine)
        is_held_back = firing.schedule.overlap is Overlap.SKIP and is_under_way
        made = () if is_held_back else tuple(job.request_id for job in firing.jobs if self.model.insert(job)[1])
        assert fired.jobs == made
        self.made += made
        self.next_run = firing.next_run
        assert self.next_run > self.now
        assert self.run(self.backend.fire(firing, now=self.now)) is None

    @precondition(lambda self: self.schedule is not None)
    @rule()
    def pause_for_a_while(self):
        for is_paused in (True, True):
            entry = self.run(self.backend.pause_schedule("report", is_paused=is_paused, now=self.now))
            assert (entry.paused_at, entry.next_run) == (self.now, self.next_run)
        entry = self.run(self.backend.pause_schedule("report", is_paused=False, now=self.now))
        if self.next_run <= self.now:
            self.next_run = resumed_run(entry, now=self.now)
        assert (entry.paused_at, entry.next_run) == (None, self.next_run)

    @precondition(lambda self: self.schedule is not None)
    @rule()
    def run_now(self):
        job = self.schedule.job(new_job().request_id)
        done = self.run(self.backend.run_schedule("report", request_id=job.request_id, now=self.now))
        assert (done.job.id, done.job.is_new) == self.model.insert(job)
        self.made += [job.request_id] * done.job.is_new
        newest = self.run(self.backend.schedule_runs("report", limit=1))[0]
        assert newest.job == (job.request_id if done.job.is_new else None)

    # control

    @precondition(lambda self: self.model.jobs)
    @rule(bits=subsets)
    def cancel(self, bits):
        jobs = pick_some(self.model.jobs.values(), bits & (bits >> 3))
        target = JobFilter(ids=tuple(job.id for job in jobs))
        self.check_cancelled(target, [job for job in jobs if job.state not in TERMINAL])

    @rule()
    def cancel_queue(self, queue="blue"):
        jobs = [job for job in self.model.jobs.values() if job.queue == queue and job.state not in TERMINAL]
        self.check_cancelled(JobFilter(queue=queue), [job for job in jobs if job.cancel_requested is None])

    def check_cancelled(self, target, jobs):
        settled = self.run(self.backend.cancel(target, reason="enough", now=self.now))
        for job in jobs:
            job.cancel_requested = "enough"
            if job.state is not State.RUNNING:
                self.model.move(job, State.CANCELLED)
        assert {told(one) for one in settled} == {(*about(job), job.state) for job in jobs}

    @precondition(lambda self: self.model.in_state(*TERMINAL))
    @rule(which=some)
    def retry(self, which):
        job = pick(self.model.in_state(*TERMINAL), which)
        self.is_retrying = True
        retried = self.run(self.backend.retry(JobFilter(ids=(job.id,)), now=self.now))
        is_retried = job.state is not State.COMPLETED
        assert [(one.id, one.queue) for one in retried] == ([(job.id, job.queue)] if is_retried else [])
        if is_retried:
            self.model.retry(job)

    @precondition(lambda self: self.model.jobs)
    @rule(which=some, due=st.sampled_from([None, seconds(0), seconds(7), seconds(60), seconds(-60)]), is_moment=some)
    def reschedule(self, which, due, is_moment):
        job = pick(self.model.jobs.values(), which)
        before, was = job.state, job.due
        moment = None if due is None else max(self.now + due, self.now)
        wanted = due if due is None or (due >= seconds(0) and is_moment % 2) else self.now + due
        done = self.run(self.backend.reschedule(job.id, due=wanted, now=self.now))
        if before not in MAY_BE_RESCHEDULED:
            assert done is None
            return
        if moment is not None:
            self.model.reschedule(job, moment)
        elif before is not State.PENDING:
            self.model.put_to(job, self.now)
        assert (done.id, done.queue, done.attempt) == (job.id, job.queue, job.attempt)
        assert (done.before, done.state, done.scheduled_at) == (before, job.state, job.due)
        assert not (due is None and before is State.PENDING) or job.due == was

    @precondition(lambda self: self.model.jobs)
    @rule(bits=subsets)
    def delete(self, bits):
        jobs = pick_some(self.model.jobs.values(), 1 << bits % 12)
        deleted = self.run(self.backend.delete(JobFilter(ids=tuple(job.id for job in jobs))))
        gone = [job for job in jobs if job.state is not State.RUNNING]
        assert set(deleted) == {job.id for job in gone}
        for job in gone:
            self.model.forget(job)

    @rule(queue=st.sampled_from(QUEUES), is_paused=st.sampled_from([True, False, False, False]))
    def put_queue(self, queue, is_paused):
        self.run(self.backend.put_queue(QueueSettings(name=queue, paused_at=self.now if is_paused else None)))
        (self.model.paused.add if is_paused else self.model.paused.discard)(queue)

    # what always holds

    @invariant()
    def every_job_is_as_expected(self):
        jobs = {job.id: job for job in self.run(self.backend.find(JobQuery(limit=10_000))).jobs}
        self.check_transitions({job.id: job.state for job in jobs.values()})
        assert jobs.keys() == self.model.jobs.keys()
        for job_id, expected in self.model.jobs.items():
            assert jobs[job_id].queue == expected.queue
            assert shown(jobs[job_id]) == foreseen(expected)
            if expected.state is State.RUNNING:
                assert expected.token is not None
                assert expected.node in self.model.beats
                assert (jobs[job_id].attempted_at is not None) == expected.has_started

    def check_transitions(self, states):
        for job_id, before in self.seen.items():
            after = states.get(job_id, before)
            assert before is after or is_allowed(before, after), (before, after)
            assert before is after or before not in TERMINAL or self.is_retrying
        self.seen, self.is_retrying = states, False

    @invariant()
    def the_counters_equal_a_recount(self):
        recount = Counter((job.queue, job.state) for job in self.model.jobs.values())
        counts = self.run(self.backend.statistics(now=self.now))
        assert recount == {
            (queue, state): number
            for queue, known in counts.queues.items()
            for state, number in known.by_state.items()
            if number
        }


class MemoryLifeCycle(LifeCycle):
    def make_backend(self):
        return MemoryBackend()


class SQLiteLifeCycle(LifeCycle):
    def make_backend(self):
        self.folder = TemporaryDirectory()
        return SQLiteBackend(Path(self.folder.name) / "tasks.db")

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


class PostgresLifeCycle(LifeCycle):
    store: Store
    role = "none"

    def make_backend(self):
        address = self.store.empty()
        return PostgresBackend(
            msgspec.structs.replace(address, conninfo=f"{address.conninfo}?options=-c%20role%3D{self.role}")
        )


_paths = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

TestMemoryLifeCycle = MemoryLifeCycle.TestCase
TestMemoryLifeCycle.settings = settings(max_examples=120, stateful_step_count=80, **_paths)
# A failing path takes long to be made short.
TestMemoryLifeCycle.pytestmark = pytest.mark.timeout(600)

TestSQLiteLifeCycle = SQLiteLifeCycle.TestCase
TestSQLiteLifeCycle.settings = settings(max_examples=40, stateful_step_count=80, **_paths)
TestSQLiteLifeCycle.pytestmark = pytest.mark.timeout(600)


class RestrictedLifeCycle(PostgresLifeCycle):
    """As a user who has the rights that the guide gives to a worker, and no others."""

    prefix = f"restricted_{os.getpid()}"
    role = f"{prefix}_worker"


class TestPostgresLifeCycle(PostgresLifeCycle.TestCase):
    settings = settings(max_examples=40, stateful_step_count=80, **_paths)
    pytestmark = pytest.mark.timeout(600)

    @pytest.fixture(autouse=True)
    def store(self, make_store):
        PostgresLifeCycle.store = make_store("usual")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "installation", installations()[1:], ids=lambda installation: f"PostgreSQL {installation.name}"
)
def test_a_postgres_of_this_system_goes_along_with_the_model_too(installation, start_postgres):
    with new_store(start_postgres(installation)) as store:
        PostgresLifeCycle.store = store
        run_state_machine_as_test(
            PostgresLifeCycle, settings=settings(max_examples=10, stateful_step_count=80, **_paths)
        )


@pytest.mark.timeout(600)
def test_a_user_with_the_rights_of_the_guide_goes_along_with_the_model(make_store):
    store, prefix = make_store("usual"), RestrictedLifeCycle.prefix
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"
    [grants] = re.findall(r'^```sql title="grants.sql"\n(.*?)^```$', guide.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    RestrictedLifeCycle.store = store
    users = ", ".join(f"{prefix}_{name}" for name in ("worker", "producer", "viewer"))
    run_script(store, "".join(f"CREATE ROLE {user};" for user in users.split(", ")))
    try:
        run_script(store, grants.replace("shop_", f"{prefix}_"))
        run_state_machine_as_test(
            RestrictedLifeCycle, settings=settings(max_examples=10, stateful_step_count=80, **_paths)
        )
    finally:
        run_script(store, f"DROP OWNED BY {users}; DROP ROLE {users}")


def run_script(store, statements):
    with psycopg.connect(store.address.conninfo, autocommit=True) as owner:
        owner.execute(statements)
