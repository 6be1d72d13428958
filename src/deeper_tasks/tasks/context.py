"""The context of a run: what a handler can ask and tell about its own job."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from copy import copy
from datetime import UTC, datetime, timedelta
from math import inf, isfinite
from types import MappingProxyType
from typing import Any, Protocol, SupportsFloat

from msgspec import Struct, field

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import ClaimedJob, Progress
from deeper_tasks.domain.outcome import Stopped
from deeper_tasks.domain.stop import Stop, foremost
from deeper_tasks.domain.text import searchable
from deeper_tasks.errors import JobError, TransactionError
from deeper_tasks.tasks.manager_identity import ManagerIdentity
from deeper_tasks.tasks.quoting import quoted
from deeper_tasks.tasks.stop_signals import StopSignals
from deeper_tasks.tasks.worker_state import WorkerState

MAX_LOG_LINE = 2000
"""Characters of a log line, or of the message beside a progress, that are kept."""
MAX_LOG_LINE_READ = 64_000
"""Characters of one that are handed to the worker, which takes out secrets before it is cut."""

_ROUNDING = 1e-6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST_LENGTH = 16

_CANCELLED, _TIMED_OUT = frozenset({Stop.CANCEL}), frozenset({Stop.TIMEOUT})
_STOPPING, _ANY = frozenset({Stop.SHUTDOWN, Stop.LOST}), frozenset(Stop)
_REASONS = {
    Stop.CANCEL: "the job was cancelled",
    Stop.TIMEOUT: "the attempt runs longer than its timeout",
    Stop.SHUTDOWN: "the worker is shutting down",
    Stop.LOST: "the worker has lost the job",
}


class Reporter(Protocol):
    """Where a running job's news go: the worker. May be called from any thread, and never waits."""

    def progress(self, job_id: JobId, progress: Progress) -> None:
        """Take note of how far the job is; of several in a row the last counts."""

    def log(self, job_id: JobId, line: str) -> None:
        """Add a line to the job's log."""


class OpenTransaction(Protocol):
    """
    The transaction that a handler runs in, until it is over.

    Attributes:
        connection: what the handler writes and enqueues through.
        is_over: whether its end has begun.
        blocked_file: the absolute path of the database file whose other writers wait for its end; None if none wait.
    """

    connection: Any
    is_over: bool
    blocked_file: str | None


class CurrentJob(Struct, eq=False):
    """
    The job that this code runs for, as `current_job()` gives it.

    A handler that stops early looks at `should_stop` between two steps, or calls
    `check()`. One that has read `cancelled`, `timed_out`, `stopping` or `should_stop` as
    true, or caught its cancellation, knows of the stop: if it returns then, the job is
    not `completed`, but cancelled, failed by its timeout or given back, unless it
    returns `Done(value)`.

    Attributes:
        timeout: how long this attempt may run; None without a limit.
        state: what the start hooks of this process made, by name.
    """

    # A struct, for one is made for each job: a class whose __init__ sets all this takes three times as long.
    _job: ClaimedJob
    timeout: timedelta | None
    _reporter: Reporter
    _transaction: OpenTransaction | None = None
    _manager: ManagerIdentity | None = None
    state: WorkerState = field(default_factory=WorkerState)
    _stops: StopSignals = field(default_factory=StopSignals)
    _started: float = field(default_factory=time.time)
    _is_handlers: bool = True

    def __repr__(self) -> str:
        return f"<CurrentJob {self.task} {self.id}, attempt {self.attempt} of {self.max_attempts}>"

    @property
    def cancelled(self) -> bool:
        """Whether an operator has asked for the job to be cancelled."""
        return self._is_told(_CANCELLED)

    @property
    def timed_out(self) -> bool:
        """Whether this attempt has run longer than its timeout."""
        return self._is_told(_TIMED_OUT)

    @property
    def stopping(self) -> bool:
        """
        Whether the worker is about to stop this attempt: it was told to shut down, or has lost the job.

        True from the SIGTERM on. The interruption itself comes at the end of the grace period, so there is time to
        come to a good end; a handler that returns instead has its job given back without an attempt.
        """
        return self._is_told(_STOPPING)

    @property
    def should_stop(self) -> bool:
        """Whether there is any reason to stop: `cancelled`, `timed_out` or `stopping`."""
        return self._is_told(_ANY)

    def check(self) -> None:
        """
        Do nothing while the attempt may go on.

        Raises:
            Stopped: it should stop; let it pass, and the attempt ends as that asks.
        """
        if self.should_stop:
            stop = foremost(self._stops.in_force())
            assert stop is not None
            raise Stopped((stop is Stop.CANCEL and self._stops.reason) or _REASONS[stop])

    def _is_told(self, kinds: frozenset[Stop]) -> bool:
        self._stops.refresh()
        told = self._stops.in_force() & kinds
        if told and self._is_handlers:
            self._stops.mark_seen(told)
        return bool(told)

    @property
    def deadline(self) -> datetime | None:
        """When the timeout strikes, in UTC; None without a timeout."""
        return None if self.timeout is None else datetime.fromtimestamp(self._started, UTC) + self.timeout

    @property
    def id(self) -> JobId:
        """The job's id: the same in every attempt."""
        return self._job.id

    @property
    def idempotency_key(self) -> str:
        """
        What to send along with a request to the outside that must take effect once, as an `Idempotency-Key` does.

        The same in every attempt of the job, after a rescue and after a manual
        retry; another for every other job, also one of another store. 56
        characters of printable ASCII that begin with `dt-` and the job's id.
        """
        return self._key("")

    def idempotency_key_for(self, step: str) -> str:
        """
        Return a key as `idempotency_key` is one, for one of several requests of a task: `…_for("charge")`.

        The same job and step always give the same key, and two steps two.

        Raises:
            ValueError: the step has no name.
        """
        if not step:
            message = f"a step is told from others by its name, a text such as 'charge', not {step!r}"
            raise ValueError(message)
        return self._key(step)

    def _key(self, step: str) -> str:
        # Beside the id goes when the job came into its store: two stores that have the same recurring entry
        # give the jobs it fires the same ids.
        inserted = (self._job.inserted_at - _EPOCH) // timedelta(microseconds=1)
        digest = hashlib.sha256(f"{inserted}\0{step}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"dt-{self.id}-{digest[:_DIGEST_LENGTH]}"

    @property
    def task(self) -> str:
        """The task's name."""
        return self._job.task

    @property
    def queue(self) -> str:
        """The queue it was claimed from."""
        return self._job.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._job.attempt

    @property
    def max_attempts(self) -> int:
        """The attempt whose failure discards the job."""
        return self._job.max_attempts

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags it was enqueued with."""
        return () if self._job.options is None else self._job.options.tags

    @property
    def meta(self) -> Mapping[str, Any]:
        """What else it was enqueued with; not to be changed."""
        return MappingProxyType({} if self._job.options is None else self._job.options.meta)

    @property
    def connection(self) -> Any:
        """
        The connection of the job's transaction, in a task with `transactional=True`.

        What is written through it is committed together with the job's
        completion, when the task returns; whatever else ends the attempt rolls
        it back. It cannot be committed, rolled back or closed; savepoints work.
        On SQLite it is a `sqlite3.Connection`, with whatever `row_factory` you set, and on PostgreSQL psycopg's
        `AsyncConnection` in an `async def` and its `Connection` in a `def`.

        Raises:
            TransactionError: the task is not transactional, or the transaction is over.
        """
        if self._transaction is None:
            message = (
                f"the task {self.task!r} has no transaction: define it with transactional=True, or open a connection "
                "of your own"
            )
            raise TransactionError(message)
        if self._transaction.is_over:
            message = (
                f"the transaction of the job {self.id} is over: what outlives the task, such as an asyncio task that "
                "it does not await, can do nothing in it"
            )
            raise TransactionError(message)
        return self._transaction.connection

    def progress(self, done: SupportsFloat, message: object = "", *, total: SupportsFloat | None = None) -> None:
        """
        Tell how far the job is: `progress(0.25, "a quarter")`, or `progress(12, total=48)`.

        Never waits; what follows closely on another is dropped in favour of the last.
        Any number will do, one of numpy, a `Fraction` or a `Decimal` too. Of the message
        2,000 characters are kept; what is no text is written as `str` gives it.

        Raises:
            TypeError: `done` or `total` is no number.
            ValueError: one of them is NaN or infinite, or a fraction does not lie between 0 and 1.
        """
        fraction = _fraction(done, total)
        words = "" if message is None else searchable(message, most=MAX_LOG_LINE_READ)
        self._reporter.progress(self.id, Progress(fraction=fraction, message=words))

    def log(self, line: object) -> None:
        """
        Add a line to the log that is kept with the job; what is longer than 2,000 characters is cut.

        Never waits, and never fails: what is no text is written as `str` gives it.
        It is not the logger: its lines are where `get_task_status` and `deeper status` find them.
        """
        self._reporter.log(self.id, searchable(line, most=MAX_LOG_LINE_READ))


_CURRENT: ContextVar[CurrentJob] = ContextVar("deeper_tasks_current_job")


def current_job() -> CurrentJob:
    """
    Return the job that this code runs for, also in threads that `asyncio.to_thread` starts.

    Raises:
        JobError: no worker is running this code.
    """
    job = _CURRENT.get(None)
    if job is None:
        message = "there is no current job: this code was not called by a worker"
        raise JobError(message)
    return job


def open_transaction() -> OpenTransaction | None:
    """Return the transaction that this code runs in, as a handler or what it calls; None: there is none, or no more."""
    job = _CURRENT.get(None)
    transaction = None if job is None else job._transaction  # noqa: SLF001 - this module's own
    return None if transaction is None or transaction.is_over else transaction


def joined_connection(manager: ManagerIdentity) -> Any:
    """
    Return the connection of the transaction that an enqueue with this manager joins; None if it joins none.

    It joins the transaction of the job that this code runs for, if a worker of the same manager runs that job.

    Raises:
        TransactionError: the transaction is over.
    """
    job = _CURRENT.get(None)
    if job is None or job._transaction is None or job._manager is not manager:  # noqa: SLF001 - this module's own
        return None
    return job.connection


def onlookers_view(job: CurrentJob) -> CurrentJob:
    """Return the same job as middleware gets it: to look at its stops there does not mean that the handler has."""
    view = copy(job)
    view._is_handlers = False  # noqa: SLF001 - this module's own
    return view


def job_in(context: Context) -> ClaimedJob | None:
    """Return the job that code in this context runs for; None if it runs for none."""
    job = context.get(_CURRENT)
    return None if job is None else job._job  # noqa: SLF001 - this module's own


def handlers_job_in(context: Context) -> ClaimedJob | None:
    """Return the job whose handler's code, or code that this started, runs in this context; None if there is none."""
    job = context.get(_CURRENT)
    return job._job if job is not None and job._is_handlers else None  # noqa: SLF001 - this module's own


def note_exit(context: Context, error: BaseException) -> ClaimedJob | None:
    """Note that code in this context tried to end the program; returns the job that it runs for, or None."""
    job = context.get(_CURRENT)
    if job is None:
        return None
    job._stops.exit = error  # noqa: SLF001 - this module's own
    return job._job  # noqa: SLF001 - the same


def job_fields() -> dict[str, Any]:
    """Return what a log record of this code tells of its job, as the events of jobs do; nothing where there is none."""
    job = _CURRENT.get(None)
    return {} if job is None else {"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}


# The variable's own methods, which every job is spared a call around.
enter_job: Callable[[CurrentJob], Token[CurrentJob]] = _CURRENT.set
"""Make a job the current one of this context; `leave_job` with the token undoes it."""
leave_job: Callable[[Token[CurrentJob]], None] = _CURRENT.reset
"""Undo `enter_job`, in the same context."""


@contextmanager
def running_job(job: CurrentJob) -> Iterator[CurrentJob]:
    """Make `job` the current one inside the `with` block."""
    token = enter_job(job)
    try:
        yield job
    finally:
        leave_job(token)


def _fraction(done: SupportsFloat, total: SupportsFloat | None) -> float:
    share = _number(done, "done")
    if total is not None:
        whole = _number(total, "total")
        # A count may drift past its total, and nothing of nothing is all of it.
        return min(max(share / whole, 0.0), 1.0) if whole > 0 else 1.0
    if not -_ROUNDING <= share <= 1 + _ROUNDING:
        message = f"progress is a fraction from 0 to 1, not {quoted(done)}; for a count give its total=…"
        raise ValueError(message)
    return min(max(share, 0.0), 1.0)


def _number(value: SupportsFloat, name: str) -> float:
    """Return a number as the plain `float` that every store can write."""
    try:
        # A text is no number, though `float` would read it.
        number = None if isinstance(value, str | bytes | bytearray) else float(value)
    except OverflowError:
        number = inf
    except Exception as error:
        raise TypeError(_no_number(value, name)) from error
    if number is None:
        raise TypeError(_no_number(value, name))
    if not isfinite(number):
        message = f"progress: {name} must be a finite number, not {quoted(value)}"
        raise ValueError(message)
    return number


def _no_number(value: object, name: str) -> str:
    return f"progress: {name} must be a number, not {quoted(value)}"
