"""The context of a run: the current job as its handler sees it, with progress, log, stops and transaction."""

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
"""The number of characters of a log line, or of a progress message, that are kept."""
MAX_LOG_LINE_READ = 64_000
"""The number of characters that are passed to the worker, which removes secrets before it cuts the text."""

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
    """Takes the progress and log lines of running jobs. Safe to call from any thread; never waits."""

    def progress(self, job_id: JobId, progress: Progress) -> None:
        """Take the progress of a job; later progress replaces earlier."""

    def log(self, job_id: JobId, line: str) -> None:
        """Add a line to the job's log."""


class OpenTransaction(Protocol):
    """
    The transaction of a running handler.

    Attributes:
        connection: the connection through which the handler writes and enqueues.
        is_over: whether the end of the transaction has begun.
        blocked_file: the absolute path of the database file whose other writers wait for the end; None if none wait.
    """

    connection: Any
    is_over: bool
    blocked_file: str | None


class CurrentJob(Struct, eq=False):
    """
    The job that this code runs for; `current_job()` returns it.

    A handler that can stop early reads `should_stop` between two steps, or calls `check()`. A handler that has read
    `cancelled`, `timed_out`, `stopping` or `should_stop` as true, or has caught its cancellation, knows of the stop. If
    it then returns, its job is not `completed`, but cancelled, failed by its timeout, or released; `Done(value)` as the
    return value completes it.

    Attributes:
        timeout: how long this attempt may run; None without a limit.
        state: the objects that the start hooks of this process have made, by name.
    """

    # A struct: one is made for each job, and a class with an __init__ would take three times as long.
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
        """Whether the cancellation of the job was requested."""
        return self._is_announced(_CANCELLED)

    @property
    def timed_out(self) -> bool:
        """Whether this attempt has run longer than its timeout."""
        return self._is_announced(_TIMED_OUT)

    @property
    def stopping(self) -> bool:
        """
        Whether the worker is about to stop this attempt, because it shuts down or has lost the job.

        It is true from the SIGTERM on. The interruption comes at the end of the grace period, so the handler has time
        to finish. If the handler returns early instead, its job is released without using up an attempt.
        """
        return self._is_announced(_STOPPING)

    @property
    def should_stop(self) -> bool:
        """Whether there is any reason to stop: `cancelled`, `timed_out` or `stopping`."""
        return self._is_announced(_ANY)

    def check(self) -> None:
        """
        Do nothing while the attempt may continue.

        Raises:
            Stopped: it should stop; let it pass, and the attempt ends as that asks.
        """
        if self.should_stop:
            stop = foremost(self._stops.in_force())
            assert stop is not None
            raise Stopped((stop is Stop.CANCEL and self._stops.reason) or _REASONS[stop])

    def _is_announced(self, kinds: frozenset[Stop]) -> bool:
        self._stops.refresh()
        announced = self._stops.in_force() & kinds
        if announced and self._is_handlers:
            self._stops.mark_seen(announced)
        return bool(announced)

    @property
    def deadline(self) -> datetime | None:
        """The time, in UTC, at which the timeout ends the attempt; None without a timeout."""
        return None if self.timeout is None else datetime.fromtimestamp(self._started, UTC) + self.timeout

    @property
    def id(self) -> JobId:
        """The job's id, the same in every attempt."""
        return self._job.id

    @property
    def idempotency_key(self) -> str:
        """
        A key to send, as an `Idempotency-Key`, with a request to another service that must take effect only once.

        It is the same in every attempt of the job, also after a rescue or a manual retry, and differs from the keys of
        all other jobs, also those of other stores. It has 56 characters of printable ASCII, which begin with `dt-` and
        the job's id.
        """
        return self._key("")

    def idempotency_key_for(self, step: str) -> str:
        """
        Return a key like `idempotency_key` for one of several requests of a task: `idempotency_key_for("charge")`.

        The same job and step always give the same key; two steps give two keys.

        Raises:
            ValueError: the name of the step is empty.
        """
        if not step:
            message = f"the name of a step cannot be {step!r}; give a text such as 'charge'"
            raise ValueError(message)
        return self._key(step)

    def _key(self, step: str) -> str:
        # The id alone is not enough: two stores with the same recurring entry give the same ids to its jobs. So the key
        # also has the time of the insert.
        inserted = (self._job.inserted_at - _EPOCH) // timedelta(microseconds=1)
        digest = hashlib.sha256(f"{inserted}\0{step}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"dt-{self.id}-{digest[:_DIGEST_LENGTH]}"

    @property
    def task(self) -> str:
        """The task's name."""
        return self._job.task

    @property
    def queue(self) -> str:
        """The queue from which the job was claimed."""
        return self._job.queue

    @property
    def attempt(self) -> int:
        """The number of this attempt, counted from 1."""
        return self._job.attempt

    @property
    def max_attempts(self) -> int:
        """The attempt whose failure discards the job."""
        return self._job.max_attempts

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags with which the job was enqueued."""
        return () if self._job.options is None else self._job.options.tags

    @property
    def meta(self) -> Mapping[str, Any]:
        """The meta data with which the job was enqueued; it cannot be changed."""
        return MappingProxyType({} if self._job.options is None else self._job.options.meta)

    @property
    def connection(self) -> Any:
        """
        The connection of the job's transaction, in a task with `transactional=True`.

        Writes through it are committed together with the job's completion when the task returns; any other end of the
        attempt rolls them back. The task cannot commit, roll back or close it; savepoints work. On SQLite it is a
        `sqlite3.Connection`, with the `row_factory` that you set. On PostgreSQL it is psycopg's `AsyncConnection` in an
        `async def`, and its `Connection` in a `def`.

        Raises:
            TransactionError: the task is not transactional, or the transaction is over.
        """
        if self._transaction is None:
            message = (
                f"the task {self.task!r} has no transaction; define it with transactional=True, or open a connection "
                "of your own"
            )
            raise TransactionError(message)
        if self._transaction.is_over:
            message = (
                f"the transaction of the job {self.id} has ended; code that outlives the task, such as an asyncio task "
                "that it does not await, cannot use it"
            )
            raise TransactionError(message)
        return self._transaction.connection

    def progress(self, done: SupportsFloat, message: object = "", *, total: SupportsFloat | None = None) -> None:
        """
        Report the job's progress: `progress(0.25, "a quarter")`, or `progress(12, total=48)`.

        The call never waits. Of several reports in quick succession only the last is stored. Numbers may be of any
        numeric type, such as numpy's, `Fraction` or `Decimal`. The message is converted by `str`, and its first 2,000
        characters are kept.

        Raises:
            TypeError: `done` or `total` is not a number.
            ValueError: `done` or `total` is NaN or infinite, or a fraction does not lie between 0 and 1.
        """
        fraction = _fraction(done, total)
        text = "" if message is None else searchable(message, most=MAX_LOG_LINE_READ)
        self._reporter.progress(self.id, Progress(fraction=fraction, message=text))

    def log(self, line: object) -> None:
        """
        Add a line to the log that is kept with the job; its first 2,000 characters are kept.

        The call never waits and never fails; the line is converted by `str`. `get_task_status` and `deeper status` show
        the log; it does not go to the logging module.
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
    """Return the open transaction of the job that this code runs for; None if there is none, or it has ended."""
    job = _CURRENT.get(None)
    transaction = None if job is None else job._transaction  # noqa: SLF001 - this module's own
    return None if transaction is None or transaction.is_over else transaction


def joined_connection(manager: ManagerIdentity) -> Any:
    """
    Return the connection of the transaction that an enqueue with this manager joins; None if it joins none.

    It joins the transaction of the job that this code runs for, if a worker of the same manager runs that job.

    Raises:
        TransactionError: the transaction has ended.
    """
    job = _CURRENT.get(None)
    if job is None or job._transaction is None or job._manager is not manager:  # noqa: SLF001 - this module's own
        return None
    return job.connection


def middleware_view(job: CurrentJob) -> CurrentJob:
    """Return the job for middleware: a stop that middleware reads there does not count as seen by the handler."""
    view = copy(job)
    view._is_handlers = False  # noqa: SLF001 - this module's own
    return view


def job_in(context: Context) -> ClaimedJob | None:
    """Return the job that code in this context runs for, or None."""
    job = context.get(_CURRENT)
    return None if job is None else job._job  # noqa: SLF001 - this module's own


def handlers_job_in(context: Context) -> ClaimedJob | None:
    """Return the job whose handler, or code that the handler has started, runs in this context, or None."""
    job = context.get(_CURRENT)
    return job._job if job is not None and job._is_handlers else None  # noqa: SLF001 - this module's own


def note_exit(context: Context, error: BaseException) -> ClaimedJob | None:
    """Note that code in this context tried to end the program; return the job that it runs for, or None."""
    job = context.get(_CURRENT)
    if job is None:
        return None
    job._stops.exit = error  # noqa: SLF001 - this module's own
    return job._job  # noqa: SLF001 - the same


def job_fields() -> dict[str, Any]:
    """Return the fields of the current job for a log record; an empty dict without a job."""
    job = _CURRENT.get(None)
    return {} if job is None else {"job_id": job.id, "task": job.task, "queue": job.queue, "attempt": job.attempt}


# The methods of the variable itself: wrappers would cost every job two more calls.
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
        # A count may exceed its total, and 0 of 0 counts as complete.
        return min(max(share / whole, 0.0), 1.0) if whole > 0 else 1.0
    if not -_ROUNDING <= share <= 1 + _ROUNDING:
        message = f"progress is a fraction from 0 to 1, not {quoted(done)}; for a count give its total=…"
        raise ValueError(message)
    return min(max(share, 0.0), 1.0)


def _number(value: SupportsFloat, name: str) -> float:
    """Return a number as a plain `float`, which every store can write."""
    try:
        # `float` would accept a text such as "1".
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
