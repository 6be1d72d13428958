"""Builders: the few steps of which the suite's tests are made. Each takes the time that the test chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, Node, NodeRecord
from deeper_tasks.domain.ids import ClaimToken, IdGenerator, JobId, NodeId, RequestId
from deeper_tasks.domain.job import ClaimedJob, ErrorReport, Job, JobOptions, JobSpec, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import End, MovedJob, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique

NOW = datetime(2031, 5, 14, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

QUEUE = "default"
ODD = "a\0b \x01\x1f\x7f \\u0000 \\ ' \" {} NULL é \u202e \U0001f701 \uffff"
"""Text that asks for every kind of escape."""
BOOM = ErrorReport(kind="ValueError", message="boom", traceback="Traceback: boom")

_ids = IdGenerator()
_starts = count()


def new_id() -> RequestId:
    """Return an id after all before."""
    return _ids.next(int(NOW.timestamp()) * 1_000_000_000)


def new_token() -> ClaimToken:
    """Return a token never seen before."""
    return ClaimToken(uuid4().hex)


def new_job(
    *,
    request_id: RequestId | None = None,
    task: str = "shop.mails.send",
    arguments: str = '[[42],{"loud":true}]',
    queue: str = QUEUE,
    priority: int = 0,
    max_attempts: int = 5,
    expires_in: timedelta | None = None,
    options: JobOptions | None = None,
    due: datetime | None = None,
    delay: timedelta = timedelta(0),
    unique: Unique | None = None,
) -> NewJob:
    """Return a job to insert. Fields that are not given have ordinary values."""
    spec = JobSpec(
        task=task,
        arguments=arguments,
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        expires_in=expires_in,
        options=JobOptions() if options is None else options,
    )
    return NewJob(
        request_id=new_id() if request_id is None else request_id, spec=spec, due=due, delay=delay, unique=unique
    )


def new_node(name: str = "worker") -> Node:
    """Return a node that starts for the first time."""
    start = next(_starts)
    return Node(
        id=NodeId(f"{name}-{uuid4().hex}"),
        name=name,
        host="host",
        scope="scope",
        pid=1000 + start,
        pid_started=str(start),
        queues={QUEUE: 10},
    )


async def join(backend: Backend, name: str = "worker", *, now: datetime = NOW) -> NodeId:
    """Register a new node."""
    node = new_node(name)
    await backend.register(node, now=now)
    return node.id


async def put(backend: Backend, *, now: datetime = NOW, **fields: Any) -> JobId:
    """Insert one new job."""
    [insertion] = await backend.insert([new_job(**fields)], now=now)
    assert insertion.is_new
    return insertion.id


async def put_many(backend: Backend, number: int, *, now: datetime = NOW, **fields: Any) -> list[JobId]:
    """Insert as many new jobs, in the order of their ids."""
    insertions = await backend.insert([new_job(**fields) for _ in range(number)], now=now)
    assert all(insertion.is_new for insertion in insertions)
    return [insertion.id for insertion in insertions]


async def ids_of(backend: Backend, requests: Iterable[NewJob]) -> list[JobId]:
    """Return the ids of the jobs of requests that were made, also where the store makes the ids by itself."""
    jobs = list(requests)
    if not backend.capabilities.makes_ids:
        return [job.request_id for job in jobs]
    answers = await backend.insert(jobs, atomic=False, now=NOW)
    assert not any(answer.is_new for answer in answers)
    return [answer.id for answer in answers]


def may_be_ids_of(backend: Backend, ids: Sequence[JobId], requests: Sequence[RequestId]) -> bool:
    """Return whether jobs may be those of requests: they have their ids, unless the store makes the ids by itself."""
    if backend.capabilities.makes_ids:
        return len(set(ids)) == len(ids) == len(requests)
    return list(ids) == list(requests)


def in_order(ids: Iterable[JobId]) -> list[JobId]:
    """Return ids in the order in which stores sort them: UUIDs as texts, numbers by their value."""
    return sorted(ids, key=order_of)


def order_of(job_id: JobId) -> tuple[int, str]:
    """Return the place of an id among the ids of its store."""
    return len(job_id), job_id


async def take(
    backend: Backend,
    node: NodeId,
    *,
    limit: int = 1,
    slots: int | None = None,
    queue: str | QueuePattern = QUEUE,
    after: str = "",
    token: ClaimToken | None = None,
    quarantined: int | None = None,
    now: datetime = NOW,
) -> tuple[ClaimedJob, ...]:
    """Claim jobs, all of them started unless `slots` says how many are."""
    claim = await backend.claim(
        queue,
        limit=limit,
        slots=limit if slots is None else slots,
        node=node,
        token=new_token() if token is None else token,
        after=after,
        quarantined=backend.capabilities.max_batch if quarantined is None else quarantined,
        now=now,
    )
    return claim.jobs


async def take_all(backend: Backend, node: NodeId, *, now: datetime = NOW) -> tuple[ClaimedJob, ...]:
    """Claim every pending job, a batch at a time."""
    jobs: tuple[ClaimedJob, ...] = ()
    while taken := await take(backend, node, limit=backend.capabilities.max_batch, now=now):
        jobs += taken
    return jobs


async def put_running(
    backend: Backend, node: NodeId, *, is_started: bool = True, now: datetime = NOW, **fields: Any
) -> ClaimedJob:
    """Insert one job and claim it; no other may be pending in its queue."""
    job_id = await put(backend, now=now, **fields)
    slots = 1 if is_started else 0
    [job] = await take(backend, node, slots=slots, queue=fields.get("queue", QUEUE), now=now)
    assert job.id == job_id
    return job


async def put_ended(backend: Backend, state: State, *, now: datetime = NOW, **fields: Any) -> JobId:
    """Insert one job and bring it to this end; no other may be pending in its queue."""
    end = {
        State.COMPLETED: End.COMPLETE,
        State.FAILED: End.FAIL,
        State.DISCARDED: End.DISCARD,
        State.CANCELLED: End.CANCEL,
    }[state]
    node = await join(backend, now=now)
    job = await put_running(backend, node, now=now, **fields)
    await settle(backend, [job], end, now=now)
    await backend.deregister(node)
    return job.id


async def settle(
    backend: Backend, jobs: Iterable[ClaimedJob], end: End = End.COMPLETE, *, now: datetime = NOW, **fields: Any
) -> list[Settled]:
    """Settle all these jobs with the same end, a batch at a time."""
    sent = [settlement(job, end, **fields) for job in jobs]
    settled: list[Settled] = []
    for start in range(0, len(sent), backend.capabilities.max_batch):
        settled += await backend.settle(sent[start : start + backend.capabilities.max_batch], now=now)
    return settled


def settlement(job: ClaimedJob, end: End = End.COMPLETE, **fields: Any) -> Settlement:
    """Return the end of a claimed job."""
    return Settlement(id=job.id, token=job.token, end=end, **fields)


async def look(backend: Backend, job_id: JobId) -> Job:
    """Return a job that must be there."""
    job = await backend.get(job_id)
    assert job is not None
    return job


async def state_of(backend: Backend, job_id: JobId) -> State:
    """Return the state of a job that must be there."""
    return (await look(backend, job_id)).state


async def states_of(backend: Backend, job_ids: Sequence[JobId]) -> list[State]:
    """Return the states of jobs that must be there."""
    return [await state_of(backend, job_id) for job_id in job_ids]


async def node_record(backend: Backend, node: NodeId) -> NodeRecord:
    """Return the record of a node that must be there."""
    [record] = [record for record in await backend.nodes() if record.node.id == node]
    return record


async def rescue_all(
    backend: Backend, node: NodeId, *, trusted: Collection[str] = (), now: datetime = NOW
) -> list[Settled]:
    """Take a node for dead and rescue every job it holds; returns the states they are in by it."""
    beat = (await node_record(backend, node)).beat
    moved: list[MovedJob] = []
    while True:
        rescue = await backend.rescue(node, beat=beat, trusted=trusted, now=now)
        moved.extend(rescue.jobs)
        if rescue.is_finished:
            return states_in(moved)


async def take_again(backend: Backend, node: NodeId, *, now: datetime = NOW) -> ClaimedJob:
    """Claim the only job once more, when it is due."""
    await backend.promote(now=now)
    [job] = await take(backend, node, now=now)
    return job


async def lose(backend: Backend, job_id: JobId) -> list[Settled]:
    """Have a worker that has started the only job be lost."""
    node = await join(backend)
    [job] = await take(backend, node)
    assert job.id == job_id
    return await rescue_all(backend, node)


def states_in(moved: Iterable[MovedJob]) -> list[Settled]:
    """Return the ids and states of the jobs that a rescue, an expiry or a cancel moved."""
    return [Settled(id=job.id, state=job.state) for job in moved]


def only(*ids: JobId) -> JobFilter:
    """Return the filter that selects these jobs."""
    return JobFilter(ids=ids)


async def every_job(backend: Backend, **query: Any) -> list[Job]:
    """Return all jobs that a query selects, page by page."""
    jobs: list[Job] = []
    page = await backend.find(JobQuery(**{"limit": 2000, **query}))
    jobs.extend(page.jobs)
    while page.next is not None:
        page = await backend.find(JobQuery(**{"limit": 2000, **query, "after": page.next}))
        jobs.extend(page.jobs)
    return jobs


async def check_counters(backend: Backend) -> None:
    """Check that the store's counters equal a count of its jobs."""
    recount = Counter((job.queue, job.state) for job in await every_job(backend))
    counts = await backend.statistics(now=NOW)
    counted = {
        (queue, state): number
        for queue, known in counts.queues.items()
        for state, number in known.by_state.items()
        if number
    }
    assert counted == dict(recount)
