"""
The backend protocol: what a store must do, and what it promises.

It holds for every method:

- **Atomic.** A call happens as a whole or not at all, also against other processes.
- **Never waits for work.** A claim that finds nothing returns nothing.
- **Repeatable.** A call that raised `BackendUnavailableError` may be sent again as it
  was: what it had done already is not done twice. `insert`, `claim`, `settle` and `report`
  give the same answer again (`settle` until the job is claimed again or deleted); the
  others answer as if another caller had done it.
- **Time is the store's.** `now` is for tests; without it the store's own clock decides
  what is due, expired, or finished when.
- **Batches.** A call costs about the same for one job as for many.
- **One bad row never stops the others.** A row whose content cannot be read (a document
  that is no JSON or of another shape, a moment outside of the calendar) makes no call
  fail. What returns it says so in its `damage`, with stand-ins for what cannot be read; a claim
  hands such a job out, and the worker fails it. What is written to a damaged
  field starts anew. A damaged schedule stays as it is, fires and runs nothing, until it is put anew or removed.
- **Any loop.** The methods may be called from several event loops and threads of one process.

`BackendConformance` in `deeper_tasks.testing` checks all of this for any store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from deeper_tasks.domain.damage import Damage
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ClaimedJob, Insertion, Job, JobOptions, NewJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.rescheduling import Rescheduled
from deeper_tasks.domain.schedule import Fired, Firing, RunNow, Schedule, ScheduleBook, ScheduleEntry
from deeper_tasks.domain.schedule_run import MAX_KEPT_RUNS, ScheduleRun
from deeper_tasks.domain.settlement import MovedJob, Report, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import TransactionError

MAX_BATCH = 500
"""
Jobs that one call of `claim`, `settle`, `promote`, `rescue`, `expire`, `prune`,
`cancel`, `retry` or `delete` changes at most: a batch is one short transaction.
"""

MOST_TASKS_TOLD = 2_000
"""Names of tasks that a node tells at most; one that knows more tells none."""

SILENT_NODES_KEPT = timedelta(days=2)
"""
After so long without a beat `prune` forgets a node that holds no job: no worker was there to rescue it.

Longer than any step of the clock by which a worker still prunes: otherwise
such a step would take the living, who have not beaten since, for silent.
"""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a store can do. What it cannot is refused with `UnsupportedError` when asked for."""

    is_durable: bool
    is_shared: bool
    """Whether other processes see the same jobs."""
    runs_jobs: bool = True
    """False for a store that accepts everything and runs nothing."""
    max_atomic_insert: int = 10_000
    has_transactions: bool = False
    """Whether a job can be inserted inside the caller's own transaction, by `connection`."""
    has_job_transactions: bool = False
    """Whether a handler can run inside the transaction that completes its job: then it is `Transacting`."""
    longest_job_transaction: timedelta | None = None
    """
    After so long the store rolls a job's transaction back, because all its other writes wait for the end of it.

    None: they do not wait, and it may take as long as its job.
    """
    has_hints: bool = True
    """Whether `listen` hears what `notify` sends. Without, workers find new jobs when they poll."""
    insert_sends_hints: bool = False
    """Whether an insert sends the hints of its jobs by itself, when they are committed, also by a caller."""


class Node(Struct, frozen=True, kw_only=True):
    """A worker process, by one start of it. `host`, `scope`, `pid` and `pid_started` tell whether it lives here."""

    id: NodeId
    name: str
    host: str
    scope: str
    pid: int
    pid_started: str
    queues: dict[str, int]
    """The concurrency of each queue it serves, or of each pattern, which its queues share; see `ServedQueues`."""
    queue_capacity: int | None = None
    """How many pending jobs a queue should have at most; of the workers with the same number one warns."""


class NodeRecord(Struct, frozen=True, kw_only=True):
    """
    A registered node. `beat` is a count: a worker that sees it unchanged through a lease may call `rescue`.

    `damage` is what of it cannot be read: then `node` has its id, and tells nothing else.
    """

    node: Node
    beat: int
    busy: int
    registered_at: datetime
    beat_at: datetime
    is_lost: bool = False
    damage: tuple[Damage, ...] = ()


class Claim(Struct, frozen=True, kw_only=True):
    """The jobs that a claim took, in running order; `is_paused` tells why one of a single queue took nothing."""

    jobs: tuple[ClaimedJob, ...] = ()
    is_paused: bool = False


class Beat(Struct, frozen=True, kw_only=True):
    """
    The store's answer to a beat.

    `held` may name jobs whose claim or settle is still under way: only what no
    open call accounts for may be given back.
    """

    cancels: dict[JobId, str]
    """Of the node's running jobs those that are to be cancelled, and the reason."""
    held: dict[JobId, ClaimToken]
    """All jobs that the store thinks this node runs."""
    paused: frozenset[str]
    """The queues that are paused."""


class Promotion(Struct, frozen=True, kw_only=True):
    """What `promote` did: how many jobs became pending, in which queues, and when the next is due."""

    count: int
    queues: frozenset[str]
    next_due_in: timedelta | None


class Rescue(Struct, frozen=True, kw_only=True):
    """
    What `rescue` did: the jobs it took from the node, and whether any are left.

    `queues` are those that have new pending jobs by it.
    """

    jobs: tuple[MovedJob, ...]
    queues: frozenset[str]
    is_finished: bool


class Retention(Struct, frozen=True, kw_only=True):
    """How long ended jobs are kept. `failed` covers failed, discarded and cancelled. None: for ever."""

    completed: timedelta | None = timedelta(days=7)
    failed: timedelta | None = timedelta(days=30)


class SortKey(StrEnum):
    """
    What a list of jobs is sorted by; the id decides between equals.

    Jobs without the value (not finished) come last, in either direction.
    """

    INSERTED_AT = "inserted_at"
    SCHEDULED_AT = "scheduled_at"
    FINISHED_AT = "finished_at"


class JobFilter(Struct, frozen=True, kw_only=True):
    """
    Which jobs are meant; every condition given must hold, an empty filter means all.

    `worker_module` matches the tasks `<worker_module>.<name>`, at any depth, and those whose function stood there
    when they were enqueued (`JobOptions.path`). `has_begun`: only jobs of which the start
    of an attempt is known, and so none that a worker has claimed ahead of its turn.
    """

    ids: tuple[JobId, ...] | None = None
    states: frozenset[State] | None = None
    queue: str | None = None
    task: str | None = None
    worker_module: str | None = None
    tag: str | None = None
    has_begun: bool = False

    def matches(self, *, state: State, queue: str, task: str, options: JobOptions, has_begun: bool) -> bool:
        """Whether such a job meets all conditions but that of the ids."""
        return (
            (self.states is None or state in self.states)
            and (self.queue is None or queue == self.queue)
            and (self.task is None or task == self.task)
            and (self.worker_module is None or _is_of_module(self.worker_module, task, options.path))
            and (self.tag is None or self.tag in options.tags)
            and (has_begun or not self.has_begun)
        )


def _is_of_module(module: str, *paths: str | None) -> bool:
    return any(path is not None and path.startswith(module + ".") for path in paths)


class Cursor(Struct, frozen=True, kw_only=True):
    """
    A place in a sorted list: the sort key's value and the id of the last job seen.

    `stored` is the value as the store writes it, given only where no `datetime` can hold it.
    """

    value: datetime | None
    id: JobId
    stored: str | None = None


class JobQuery(Struct, frozen=True, kw_only=True):
    """A page of a list: of the jobs that `filter` means, `limit` after `offset` or after `after`."""

    filter: JobFilter = JobFilter()
    sort_by: SortKey = SortKey.INSERTED_AT
    is_descending: bool = True
    limit: int = 50
    offset: int = 0
    after: Cursor | None = None


class JobList(Struct, frozen=True, kw_only=True):
    """
    A page of jobs. `total` is exact for filters of states and queue.

    With other conditions a store may stop counting at 10,000, and give up after
    looking at 50,000 jobs; `total_is_exact` says whether that sufficed. If not,
    there are at least `total`.
    """

    jobs: tuple[Job, ...]
    total: int
    total_is_exact: bool
    next: Cursor | None


class Retried(Struct, frozen=True, kw_only=True):
    """A job that an operator's retry made pending, and the queue that has it now."""

    id: JobId
    queue: str


class QueueSettings(Struct, frozen=True, kw_only=True):
    """The settings of a queue at run time, for all workers. `damage` names the parts that cannot be read."""

    name: str
    paused_at: datetime | None = None
    damage: tuple[Damage, ...] = ()


class QueueCounts(Struct, frozen=True, kw_only=True):
    """
    The jobs of a queue by state, and how many ended today (UTC) and in the last hour, by state.

    Ends are counted by ten minutes: the last hour is the current ten minutes and the six before. An end stays
    counted when its job is retried or deleted, and one that ends twice counts twice. A count of zero may be left out.
    """

    by_state: dict[State, int]
    ended_today: dict[State, int]
    ended_last_hour: dict[State, int] = {}
    paused_at: datetime | None = None
    damage: tuple[Damage, ...] = ()


class HeldJobs(Struct, frozen=True, kw_only=True):
    """
    The jobs of a queue that a node has claimed and not settled, and how many of them it is known to have begun.

    The others wait in the worker, or are so short that it does not tell their start.
    """

    node: NodeId
    queue: str
    claimed: int
    begun: int


class Counts(Struct, frozen=True, kw_only=True):
    """
    The statistics of a store, by queue. Costs the same however many jobs there are that no worker holds.

    A queue is in it that has jobs, had an end today or in the last hour, or for which something is set.
    """

    queues: dict[str, QueueCounts]
    nodes: tuple[NodeRecord, ...]
    now: datetime
    held: tuple[HeldJobs, ...] = ()


class Service(Struct, frozen=True, kw_only=True):
    """
    The facts that decide when a job of a queue is claimed: the pause of the queue, all nodes, and what they hold.

    `knows_task` says of each node that told its tasks whether the job's is one of them.
    """

    paused_at: datetime | None
    nodes: tuple[NodeRecord, ...]
    held: tuple[HeldJobs, ...]
    knows_task: dict[NodeId, bool]
    now: datetime


class Topic(StrEnum):
    """What a notification is about."""

    JOBS = "jobs"
    """A queue has new pending jobs; the subject is its name. Empty: any queue may have."""
    CONTROL = "control"
    """A cancel request or a pause: workers should beat at once. The subject is empty or a queue."""
    SCHEDULES = "schedules"
    """An entry, or a job's due time, may be earlier than a maintainer thinks."""


class Notification(Struct, frozen=True, kw_only=True):
    """A hint that something changed. Hints may be lost, doubled or late; polling alone is correct."""

    topic: Topic
    subject: str = ""


class Backend(Protocol):
    """A store. See the head of this module for what holds for all methods."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; it does not change while it is open."""

    # life

    async def open(self, *, create: bool = True, will_join: bool = False) -> bool:
        """
        Make the store ready; a second call does nothing.

        An empty store is migrated at once, unless `create` is False: a caller that only
        looks must not make a store of a mistyped name. One that lacks later
        migrations is left alone.

        `will_join` announces an `insert` with a caller's connection. The caller's transaction may
        hold up all other writers, so a store whose writers wait for one another writes nothing here, and
        never suspends: what is missing is made by that insert, inside the transaction.

        Returns:
            Whether this call made the store, which is new and empty.

        Raises:
            BackendUnavailableError: it cannot be reached, or is not there.
            SchemaError: it is not one of ours, needs `migrate`, or is newer than this code.
        """

    async def close(self) -> None:
        """Give back threads, files and connections. Calls still under way end first."""

    async def migrate(self) -> tuple[str, ...]:
        """Bring the schema up to date; returns the names of the migrations applied, in order."""

    # produce

    async def insert(
        self,
        jobs: Sequence[NewJob],
        *,
        atomic: bool = True,
        connection: object | None = None,
        now: datetime | None = None,
    ) -> list[Insertion]:
        """
        Insert jobs; the answers are in the order of `jobs`.

        A job that is due becomes `pending`, another `scheduled`. An id that is
        there already with the same task and arguments gives the existing job;
        so does, with the holder's id, a unique key that is held.

        With `connection`, a caller's own to the same store, all of this happens
        inside its open transaction: jobs and unique keys are there if and only
        if that commits. An insert that raises leaves the transaction as it was.
        With a connection that blocks, the call does its work in the caller's
        thread and never suspends; it needs no event loop.

        Raises:
            DuplicateJobError: an id, its `job_id`, exists with another task or other arguments;
                nothing was inserted.
            UnsupportedError: more jobs than `Capabilities.max_atomic_insert`, and `atomic`; or a
                `connection`, and the store runs jobs but has no transactions.
            InvalidOptionError: `connection` is of the wrong kind, to another store, of another
                thread, closed, read-only, or without an open transaction.
            BackendUnavailableError: carries the ids; send the same jobs again. Without
                `atomic` some of the batches may be in already.
        """

    # consume

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        """
        Make a worker known, and the names of the tasks that it can run, at most `MOST_TASKS_TOLD`.

        None: it does not tell them. The same node again changes nothing but its tasks.
        """

    async def deregister(self, node: NodeId) -> None:
        """Remove a node that stopped in order. One that still holds jobs is left to be rescued."""

    async def claim(
        self,
        queue: str | QueuePattern,
        *,
        limit: int,
        slots: int,
        node: NodeId,
        token: ClaimToken,
        after: str = "",
        quarantined: int = MAX_BATCH,
        now: datetime | None = None,
    ) -> Claim:
        """
        Take up to `limit`, at most `MAX_BATCH`, pending jobs of a queue and mark them running under `token`.

        They are the first by priority, due time and id of those that are
        committed, not expired and not being claimed, but for those in quarantine: of
        these no more than `quarantined` are taken, the first, and the others keep
        their places. The first `slots` of all
        count as started, but for those in quarantine; the rest wait in the worker
        until a report says so. The
        progress of an earlier attempt is forgotten; what `ClaimedJob` tells of
        earlier attempts is as their settlements, rescues and manual retries left it.
        The same token again gives the same jobs.

        With a pattern they are of all the queues that it matches and that are not paused. These are served in
        turn, in the order of their names by code point, from the first after `after` on and
        round to it: the first job of each, then the second of each, and so on. How many queues there are that
        have no pending job does not matter to the cost.

        Raises:
            NodeLostError: the node is not registered or was taken for dead.
        """

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """
        Write the ends of attempts, at most `MAX_BATCH`, and drop their claims.

        A release without delay keeps the job's due time, and so its place in the
        line. Returns those accepted, each with the state it led to. A job that another
        worker has taken over since, that was rescued or deleted, is left alone and
        left out. One refusal never harms its neighbours.

        A token settles once. Any settlement that it sends again, in another call or
        the same, also after `JobTransaction.complete`, changes nothing and is answered
        with the state that the first led to, whatever has become of the job since,
        until the job is claimed again or deleted; from then on it is left out. So to be
        left out means a refusal only where the settlement was not sent before.

        Raises:
            BackendUnavailableError: nothing is known to be written; or, where it carries ids, all is but
                for these, which another transaction in the store holds.
        """

    async def report(self, reports: Sequence[Report], *, now: datetime | None = None) -> list[JobId]:
        """Write news of running attempts; returns the ids whose token still holds."""

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        """
        Count a sign of life of a node, with how many of its slots are busy. One row is written.

        Raises:
            NodeLostError: the node was rescued or never registered: it stops all it runs and registers anew.
        """

    # maintain

    async def promote(self, *, now: datetime | None = None) -> Promotion:
        """Make up to `MAX_BATCH` scheduled and retryable jobs that are due pending, the longest due first."""

    async def rescue(
        self, node: NodeId, *, beat: int, trusted: Collection[str] = (), now: datetime | None = None
    ) -> Rescue:
        """
        Take up to `MAX_BATCH` jobs from a dead node, if its beat still is `beat`.

        The first call that finds the beat unchanged marks the node lost: from
        then on its claims and beats are refused; a settle still counts for a job
        that no rescue has reached. A job returns to `pending` at once, having used
        an attempt, with `worker_lost` among its errors; it is `discarded` when that
        was its last and it had started, `cancelled` when that was requested. One
        that had not started returns without having used it, but for the first attempt
        of several. One that had started is quarantined, whatever becomes of it, but
        for those of the `trusted` tasks.
        When none is left the node is removed. A node that beat since, or is
        unknown, loses nothing: the answer is finished and empty.
        """

    async def expire(self, *, now: datetime | None = None) -> list[MovedJob]:
        """Fail up to `MAX_BATCH` pending or retryable jobs whose `expires_at` has passed; the error is `EXPIRED`."""

    async def prune(self, retention: Retention, *, now: datetime | None = None) -> int:
        """
        Delete up to `MAX_BATCH` ended jobs past their retention; returns how many.

        The first by `finished_at` and id, whatever their states and queues. As after
        `delete`, the unique keys of those that did not complete are free. What is of
        no use any more goes as well: unique keys that have expired, what counted the
        ends of more than 25 hours ago, and nodes that hold no job and have been silent for
        `SILENT_NODES_KEPT`. A node that running jobs name and that is not there, as in a copy
        of some of the tables, gets a stand-in, whose jobs are rescued when its lease has ended.
        """

    # schedules

    async def put_schedule(self, schedule: Schedule, *, now: datetime | None = None) -> ScheduleEntry:
        """
        Register or change an entry. An unchanged recurrence keeps its next run; a pause is always kept.

        That it was removed is forgotten.
        """

    async def pause_schedule(self, name: str, *, is_paused: bool, now: datetime | None = None) -> ScheduleEntry | None:
        """
        Hold an entry's runs, or let them go on; returns the entry, None if there is none.

        Runs that were due during the pause are not made up for: the next is the
        first after now. An entry that is paused already, or is not, stays as it is.
        """

    async def remove_schedule(self, name: str, *, is_remembered: bool = False) -> bool:
        """
        Remove an entry and its history; its jobs stay. False: there is none of this name.

        With `is_remembered`, the definition of an entry that the code declares is kept among
        `ScheduleBook.removed`, unless it cannot be read. Without, what was kept of this name before is forgotten too.
        """

    async def schedules(self, *, now: datetime | None = None) -> ScheduleBook:
        """Return all entries and the store's time."""

    async def fire(self, firing: Firing, *, now: datetime | None = None) -> Fired | None:
        """
        Insert an entry's jobs, move its next run and note its runs in the history.

        None, and nothing done: another worker fired it, it was changed in any way since the
        firing was planned, paused or removed, or it is not yet due by the store's clock.

        A run whose job is in the store or in the history already, with whatever
        content, has fired and is left out: so a clock that is set back fires nothing
        twice. One whose unique key another job holds makes no job, and the history
        says so; of several, the first takes the key. Under `Overlap.SKIP` the run moves on without jobs while a
        job of the entry has not ended. The history keeps the newest `MAX_KEPT_RUNS`.
        """

    async def run_schedule(self, name: str, *, job_id: JobId, now: datetime | None = None) -> RunNow | None:
        """
        Insert a job of an entry now and note it in the history; its due times and its pause stay.

        Returns the entry and what became of the job, None if there is no such entry. The same
        id again makes no second job; nor is there one while another job holds the entry's unique key.
        """

    async def schedule_runs(self, name: str, *, limit: int = MAX_KEPT_RUNS) -> list[ScheduleRun]:
        """Return the newest runs of an entry, the newest first, each with its job's state now."""

    # control

    async def cancel(self, target: JobFilter, *, reason: str, now: datetime | None = None) -> list[MovedJob]:
        """
        Cancel up to `MAX_BATCH` of the jobs meant, leaving ended ones alone.

        One that waits ends at once. For a running one the request is stored, and
        `beat` tells it to the worker until the job ends: it is in the answer as
        `running`. One that was asked before is in the answer only if `target.ids`
        names it; so a call repeated until it answers fewer than `MAX_BATCH` is done.
        """

    async def retry(self, target: JobFilter, *, now: datetime | None = None) -> list[Retried]:
        """
        Make up to `MAX_BATCH` failed, discarded or cancelled jobs of those meant pending again.

        Attempts, errors and quarantine are kept, the maximum grows to the attempts
        used plus the original maximum; expiry, cancel request, and since when workers
        could not run it are cleared. A job takes its
        unique key again if it is free, and otherwise runs without.
        """

    async def reschedule(
        self, job_id: JobId, *, due: datetime | timedelta | None, now: datetime | None = None
    ) -> Rescheduled | None:
        """
        Give a scheduled, retryable or pending job another due time: a moment, or so long after now.

        A moment that has passed is now. A job that is due is pending; of those that are due
        later a retryable one stays so, and the others are scheduled. The expiry moves by the
        same shift (`moved_expiry`); all else stays.

        `due` None ends the delay of a job: it is due now, and its expiry stays. A pending job stays as it is, and
        keeps its place.

        None, and nothing done: there is no such job, or it runs, is blocked or has ended.
        """

    async def delete(self, target: JobFilter) -> list[JobId]:
        """
        Delete up to `MAX_BATCH` of the jobs meant, never a running one.

        A deleted job holds no unique key any more, but for one held for a period by a job that has completed
        (`outlives_deletion`).
        """

    async def put_queue(self, settings: QueueSettings) -> None:
        """Set what holds for a queue. A pause is read inside `claim`."""

    # look

    async def get(self, job_id: JobId) -> Job | None:
        """Return a job, or None."""

    async def find(self, query: JobQuery) -> JobList:
        """Return a page of jobs."""

    async def find_ids(self, beginnings: Sequence[str], *, limit: int) -> list[list[JobId]]:
        """
        Return, for each beginning, the first `limit` ids of jobs that begin so, in their order.

        A beginning is one of an id in its canonical form. It is found by a range of the key, however many jobs
        there are, and whatever else of their rows is damaged.
        """

    async def statistics(self, *, now: datetime | None = None) -> Counts:
        """Return the counts of every queue, the nodes and what they hold, without reading the jobs that none holds."""

    async def service(self, queue: str, *, task: str, now: datetime | None = None) -> Service:
        """Return what decides when a job of this queue and task is claimed, reading no jobs but those that are held."""

    async def nodes(self) -> list[NodeRecord]:
        """Return the registered nodes."""

    async def queues(self) -> list[QueueSettings]:
        """Return the queues for which something is set."""

    # wake

    async def notify(self, notifications: Sequence[Notification]) -> None:
        """Send hints to all who listen, in this process and in others. Never raises, never blocks."""

    def listen(self) -> AsyncIterator[Notification]:
        """
        Yield hints until the iterator or the backend is closed.

        It listens from the first `anext` on. In a store without hints it ends at once. One
        that may have missed hints begins with one of each topic that has no subject: it means all.

        Raises:
            BackendUnavailableError: the connection that hears hints was lost, or there is none.
        """


class JobTransaction(Protocol):
    """
    The transaction of one attempt: the handler's writes, the job's completion and the jobs it enqueues, or nothing.

    Attributes:
        connection: what the handler gets, to write and to enqueue through. It can end nothing.
        is_over: whether the end has begun: from then on nothing can be done in it.
        blocked_file: the absolute path of the database file whose other writers wait for its end, links resolved;
            None where no other writer waits.
        broken: why the store has rolled it back by itself, or lost it; None if it has not.
        spoiled: that the handler has ended it in spite of all, so that another attempt might do again what is
            committed; None if it has not, as far as is known.
    """

    connection: Any
    is_over: bool
    blocked_file: str | None

    @property
    def broken(self) -> Exception | None:
        """See above."""

    @property
    def spoiled(self) -> TransactionError | None:
        """See above."""

    async def complete(self, settlement: Settlement, *, report: Report | None = None) -> Settled | None:
        """
        Complete the job, with its last news, and commit all; None: refused, and all is rolled back.

        It is refused when the token does not hold any more. The completion is
        the last statement before the commit. Whatever this raises, it is over:

        Raises:
            BackendUnavailableError: what became of it is unknown. Another settlement with the same token tells, by
                the state that it is answered with, if it is answered: it changes nothing if this one was committed.
            TransactionError: it was over already, or the handler has ended it in spite of all. Nothing was settled.
            BackendError: the commit was refused, by a constraint for example. All was rolled back.
        """

    async def rollback(self) -> None:
        """Roll all back, and return when nobody waits for it any more; if it is over, nothing happens."""

    def interrupt(self) -> None:
        """Break off the statement that runs in it, if one does. Safe to call from any thread."""


@runtime_checkable
class Transacting(Protocol):
    """What a store can do besides, if it says `has_job_transactions`."""

    async def begin(
        self, *, is_async: bool, limit: timedelta | None = None, now: datetime | None = None
    ) -> JobTransaction:
        """
        Begin the transaction of an attempt, when it is its turn; cancelled meanwhile, it begins none.

        `is_async`: the handler runs on this event loop, and otherwise in a
        thread; the connection is of the kind that suits. After `limit`, or what
        is less by `longest_job_transaction`, the store rolls it back by itself,
        whatever the handler does. `now` is when its end is, for tests.

        Jobs are enqueued in it by `insert` with its connection.

        Raises:
            BackendUnavailableError: there is none; nothing happened.
        """


@runtime_checkable
class Located(Protocol):
    """An addition to the protocol, of a store that lies in a file of this machine."""

    @property
    def location(self) -> str:
        """The absolute path of the file, also where the URL names it from the working folder."""


@runtime_checkable
class Compacting(Protocol):
    """What a store can do besides, if its space does not come back by itself."""

    async def compact(self) -> int:
        """Give all unused space back to the machine; returns the bytes. Nothing is written meanwhile."""


@runtime_checkable
class Folding(Protocol):
    """What a store can do besides, if its counters lag behind what is appended to them."""

    async def fold(self) -> bool:
        """Add to the counters a batch of what they are behind; returns whether there is more. No count needs it."""


@runtime_checkable
class Scripting(Protocol):
    """What a store can do besides, if its schema is made by statements that somebody may want to see first."""

    async def migration_script(self, *, is_whole: bool = False) -> str:
        """
        Return the statements that `migrate` would run, as one transaction for the store's own command-line client.

        None where nothing is missing. With `is_whole` all that make an empty
        store, without a look at this one. Changes and makes nothing.

        Raises:
            BackendUnavailableError, SchemaError: as `migrate` does.
        """
