"""The runner: takes one attempt from its claim to its settlement, in short steps."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from msgspec import UNSET

from deeper_tasks.backends.protocol import JobTransaction
from deeper_tasks.domain.damage import described
from deeper_tasks.domain.job import EXPIRED, ClaimedJob, ErrorReport
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendUnavailableError, HookError, InvalidArgumentsError, TaskNotFoundError
from deeper_tasks.integrations.events import JobStarted
from deeper_tasks.tasks import (
    CurrentJob,
    ExecutorKind,
    WorkerState,
    middleware_view,
    running_job,
)
from deeper_tasks.tasks.arguments import UnfitArgumentsError
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.execution import verdict
from deeper_tasks.worker.execution.call import AnyTask, Call, report_error
from deeper_tasks.worker.execution.executors import Executor
from deeper_tasks.worker.execution.executors.forked_child import ProcessDiedError
from deeper_tasks.worker.execution.executors.process import ProcessExecutor
from deeper_tasks.worker.execution.middleware import MiddlewareChain
from deeper_tasks.worker.execution.parts import ExecutionParts
from deeper_tasks.worker.execution.quarantine import Apart, Quarantine
from deeper_tasks.worker.execution.rolling_deploy import RollingDeploy
from deeper_tasks.worker.execution.transactions import Transactions
from deeper_tasks.worker.settling.attempt_end import AttemptEnd, PerhapsStored, Stored

_logger = logging.getLogger("deeper_tasks")

# A constant, because to look a member up by its class takes ten times as long.
_PROCESS = ExecutorKind.PROCESS


class Runner:
    """Runs attempts, each with the executor of its task and within the middleware."""

    def __init__(
        self,
        parts: ExecutionParts,
        *,
        executors: dict[ExecutorKind, Executor],
        state: WorkerState | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        collaborators, settings = parts.collaborators, parts.settings
        self._manager = collaborators.manager
        self._registry = collaborators.registry
        self._middleware = tuple(collaborators.middleware)
        self._clock = collaborators.clock
        self._bus = collaborators.bus
        self._settings = settings
        self._call_settings = parts.call_settings
        self._reporter = parts.reporter
        self._deadlines = parts.deadlines
        self._executors = executors
        self._makes_processes = isinstance(executors.get(_PROCESS), ProcessExecutor)
        self._state = WorkerState() if state is None else state
        self._quarantine = quarantine
        self._transactions = Transactions(
            backend=collaborators.backend, reporter=parts.reporter, lease=settings.lease, redaction=parts.redaction
        )
        self._deploy = RollingDeploy(
            unknown_grace=settings.unknown_task_grace, unfit_grace=settings.deploy_grace, bus=self._bus
        )

    async def run(self, attempt: Attempt, apart: Apart | None = None) -> AttemptEnd | None:
        """
        Return how the attempt ended; None if the worker has lost the job, which it must not settle any more.

        `apart` says where an attempt in quarantine runs.
        """
        job = attempt.job
        task = None if job.damage else self._resolved(job.task)
        if task is None:
            return _unreadable(job) if job.damage else self._deploy.unknown(job)
        call = Call(job, task, self._call_settings)
        if job.expires_at is not None and self._is_past(job.expires_at, attempt):
            return call.refused(EXPIRED.kind, EXPIRED.message)
        if job.is_quarantined and apart is None and task.has_quarantine and self._quarantine is not None:
            return await self._quarantine.run(attempt, call, partial(self.run, attempt))
        child = None if apart is None else apart.child
        runs_here = child is None and task.executor is not _PROCESS
        # A process reads the arguments itself.
        if runs_here and (refusal := self._refusal(call)) is not None:
            return refusal
        starts_later = child is None and not runs_here and self._makes_processes
        may_start = starts_later or not attempt.must_report_start or await self._may_start(attempt)
        if attempt.forced or not may_start:
            return verdict.unbegun(call, attempt) if may_start and attempt.stop is not Stop.LOST else None
        if task.is_transactional:
            end = await self._transactions.run(attempt, call, partial(self._inside, attempt, call))
        else:
            self._start(attempt, task, starts_later=starts_later)
            try:
                end = await self._execution(attempt, call, child)
            except BaseException as error:  # noqa: BLE001 - an error of the middleware fails the attempt
                end = self._ended_by(error, attempt, call)
        if self._reporter.has_news(job.id):
            await self._reporter.flush(job.id)
        return _after_stop(end, attempt, call) if attempt.forced else end

    def fault(self, attempt: Attempt, error: BaseException) -> Settlement:
        """
        Return the settlement of an attempt that failed by an error outside its handler.

        Never raises.
        """
        job = attempt.job
        with suppress(BaseException):  # the lookup itself may have failed
            task = self._registry.resolve_for_run(job.task)
            if task is not None:
                return Call(job, task, self._call_settings).broken_off(error, timedelta(0))
        end = End.DISCARD if job.is_last_attempt else End.RETRY
        delay = self._settings.default_retry_delay
        return Settlement(id=job.id, token=job.token, end=end, delay=delay, error=report_error(error))

    def _refusal(self, call: Call) -> Settlement | None:
        """Return the settlement of a job whose arguments cannot be used; None if they can."""
        try:
            call.arguments()
        except UnfitArgumentsError as error:
            return self._deploy.unfit(call.job, str(error))
        except InvalidArgumentsError as error:
            return call.refused(InvalidArgumentsError.__name__, str(error))
        except BaseException as error:  # noqa: BLE001 - an error of a validator fails the attempt
            return call.raised(error, timedelta(0))
        return None

    def _resolved(self, name: str) -> AnyTask | None:
        try:
            return self._registry.resolve_for_run(name)
        except TaskNotFoundError as error:
            # An allowed module cannot be imported, so its tasks are unknown to this worker.
            _logger.warning("the task %r is not known here: %s", name, error)
            return None

    def _is_past(self, moment: datetime, attempt: Attempt) -> bool:
        # The store's clock at the claim, and the worker's clock since then, because the two need not agree.
        waited = timedelta(seconds=self._clock.monotonic() - attempt.claimed)
        return attempt.job.claimed_at + waited >= moment

    async def _may_start(self, attempt: Attempt) -> bool:
        """
        Whether the job may start now.

        If this process is killed, a job that has started by the store's records goes into quarantine, or is discarded
        after its last attempt. So the start of a job that waited here is written first, except for the first attempts
        of short jobs, which are nearly all.
        """
        try:
            return await self._reporter.mark_started(attempt.job)
        except BackendUnavailableError:
            # Not started. The next beat finds that this worker does not run the job, and releases it.
            return False

    async def _inside(self, attempt: Attempt, call: Call, transaction: JobTransaction) -> Settlement:
        """Start and execute an attempt inside its job's transaction."""
        if attempt.job.expires_at is not None and self._is_past(attempt.job.expires_at, attempt):
            return call.refused(EXPIRED.kind, EXPIRED.message)
        self._start(attempt, call.task, transaction=transaction)
        assert attempt.onlooker is not None
        # Jobs that the middleware enqueues join the transaction as well.
        with running_job(attempt.onlooker):
            try:
                return await self._execution(attempt, call, None)
            except BaseException as error:  # noqa: BLE001 - an error of the middleware fails the attempt
                return self._ended_by(error, attempt, call)

    def _start(
        self, attempt: Attempt, task: AnyTask, *, starts_later: bool = False, transaction: JobTransaction | None = None
    ) -> None:
        """Start the attempt's time and announce its start; with `starts_later` the executor announces it."""
        job = attempt.job
        timeout = self._timeout(job, task)
        attempt.timeout = timeout
        # By position, because by name it takes twice as long.
        attempt.context = attempt.onlooker = CurrentJob(
            job, timeout, self._reporter, transaction, self._manager, self._state, attempt
        )
        if self._middleware:
            attempt.onlooker = middleware_view(attempt.context)
        self._deadlines.watch(attempt, timeout)
        if starts_later:
            attempt.begin = partial(self._begin, attempt)
        elif self._bus.wants(JobStarted):
            self._announce_start(attempt)

    async def _begin(self, attempt: Attempt) -> None:
        """Announce the start of an attempt whose process is ready; stop the attempt if it may not start."""
        if attempt.must_report_start and not await self._may_start(attempt):
            attempt.tell_to_stop(Stop.LOST)
        if not attempt.forced and self._bus.wants(JobStarted):
            self._announce_start(attempt)

    def _announce_start(self, attempt: Attempt) -> None:
        job = attempt.job
        waited = timedelta(seconds=self._clock.monotonic() - attempt.claimed)
        self._bus.emit(
            JobStarted(
                job_id=job.id,
                task=job.task,
                queue=job.queue,
                attempt=job.attempt,
                wait=max(timedelta(0), job.claimed_at - job.scheduled_at) + waited,
            )
        )

    def _timeout(self, job: ClaimedJob, task: AnyTask) -> timedelta | None:
        """
        Return the job's own timeout, or the task's, or the settings'.

        A transactional job may take no longer than its transaction. Zero in the job's options means no limit.
        """
        timeout = task.request.timeout
        if job.options is not None and job.options.timeout is not None:
            timeout = job.options.timeout or None
        elif timeout is UNSET:
            timeout = self._settings.default_timeout
        longest = self._transactions.longest if task.is_transactional else None
        if longest is None:
            return timeout
        return longest if timeout is None else min(timeout, longest)

    def _execution(self, attempt: Attempt, call: Call, child: Executor | None) -> Awaitable[Settlement]:
        """Return the run of the handler within the middleware. For its errors see `_ended_by`."""
        executor = self._executors[call.task.executor] if child is None else child
        # A child runs the middleware itself.
        if not self._middleware or child is not None:
            return executor.run(attempt, call)
        execute = partial(self._fitting, executor, attempt, call)
        return MiddlewareChain(attempt, call, self._middleware, execute).run()

    def _ended_by(self, error: BaseException, attempt: Attempt, call: Call) -> Settlement:
        """Return the settlement of an attempt whose execution raised, by its child or its middleware."""
        if isinstance(error, UnfitArgumentsError):
            return self._deploy.unfit(call.job, str(error))
        ran_for = timedelta(0)
        if isinstance(error, ProcessDiedError | HookError):
            return verdict.broken_off(call, error, ran_for, attempt) or call.broken_off(error, ran_for)
        return verdict.raised(call, error, ran_for, attempt)

    async def _fitting(self, executor: Executor, attempt: Attempt, call: Call) -> Settlement:
        try:
            return await executor.run(attempt, call)
        except UnfitArgumentsError as error:
            return self._deploy.unfit(call.job, str(error))


def _after_stop(end: AttemptEnd, attempt: Attempt, call: Call) -> AttemptEnd | None:
    """Return the end of an attempt that was stopped after its handler had ended, while its middleware ran on."""
    if isinstance(end, Stored):
        return end
    if attempt.stop is Stop.LOST:
        return None
    settlement = end.settlement if isinstance(end, PerhapsStored) else end
    if attempt.stop is not Stop.CANCEL or settlement.end is End.COMPLETE:
        return end
    cancelled = call.cancelled(attempt.reason, settlement.ran_for)
    return PerhapsStored(cancelled) if isinstance(end, PerhapsStored) else cancelled


def _unreadable(job: ClaimedJob) -> Settlement:
    """Fail a job whose row is damaged, which no attempt can mend."""
    error = ErrorReport(kind="DamagedError", message=f"its row in the store cannot be read: {described(job.damage)}")
    return Settlement(id=job.id, token=job.token, end=End.FAIL, error=error)
