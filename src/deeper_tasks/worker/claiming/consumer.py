"""The consumer of a queue, or of a pattern of queues: keeps its slots full, and claims short jobs a little ahead."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from deeper_tasks.backends.protocol import Claim, Role
from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.domain.stop import Stop
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.worker.attempts.attempt import Attempt
from deeper_tasks.worker.claiming.prefetch import Prefetch
from deeper_tasks.worker.execution.base_context import BaseContext
from deeper_tasks.worker.execution.solitude import Solitude
from deeper_tasks.worker.execution.verdict import SHUTTING_DOWN
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.settings import WorkerSettings
from deeper_tasks.worker.settling.attempt_end import AttemptEnd, PerhapsStored, Stored
from deeper_tasks.worker.settling.settler import MOST_UNSETTLED, Settler
from deeper_tasks.worker.store_access import StoreAccess

_MOST_AT_ONCE = 500
_LONGEST_HELD = 10
"""After so many horizons a job that waits here is released, because its estimate was wrong."""

_AFTER_A_FAULT, _UNTIL_IT_STOPS = timedelta(seconds=5), timedelta(seconds=1)
_NO_PAUSE, _SETTLE_PAUSE = timedelta(0), timedelta(milliseconds=5)

_logger = logging.getLogger("deeper_tasks")

Run = Callable[[Attempt], Awaitable[AttemptEnd | None]]
Fault = Callable[[Attempt, BaseException], Settlement]


@dataclass(frozen=True, kw_only=True)
class ConsumerParts:
    """
    The parts that all consumers of a worker share.

    `run` returns the end of an attempt, or None if the worker has lost the job; `fault` returns the settlement of an
    attempt whose run raised. `quarantine_places` returns how many jobs in quarantine may be claimed now. `on_freed` is
    called when an attempt that ignored its timeout has ended after all.
    """

    settings: WorkerSettings
    store: StoreAccess
    membership: Membership
    settler: Settler
    run: Run
    fault: Fault
    base: BaseContext
    solitude: Solitude
    quarantine_places: Callable[[], int]
    on_freed: Callable[[Attempt], None] = lambda _: None


class Consumer:
    """
    A role whose turn claims once. Jobs that were claimed ahead start without a turn.

    The queues of a pattern share the slots and are served in turn, over all claims. `running` is the group in which
    this consumer keeps its attempts. `wake` gives it its next turn.
    """

    def __init__(
        self,
        queue: str | QueuePattern,
        parts: ConsumerParts,
        *,
        slots: int,
        running: dict[JobId, Attempt],
        wake: Callable[[], None],
    ) -> None:
        settings = parts.settings
        self.queue = queue
        self.name = f"consumer of {queue}"
        self.is_draining = False
        self.running = running
        self._slots = slots
        self._poll_interval = settings.poll_interval
        self._backend = parts.store.backend
        # Without starts that are reported, a job that only waits here would count as started if this worker is lost.
        can_wait = Role.PROGRESS in self._backend.capabilities.roles
        self._horizon = settings.prefetch.total_seconds() if can_wait else 0.0
        self._clock = parts.store.clock
        self._availability = parts.store.availability
        self._membership = parts.membership
        self._settler = parts.settler
        self._run = parts.run
        self._base = parts.base
        self._fault = parts.fault
        self._solitude = parts.solitude
        self._quarantine_places = parts.quarantine_places
        self._on_freed = parts.on_freed
        self._wake = wake
        self._pace = Prefetch(slots=slots, horizon=self._horizon)
        self._held: deque[tuple[ClaimedJob, float]] = deque()
        self._unanswered: ClaimToken | None = None
        self._is_claiming = False
        self._is_dry = False
        self._claims_ahead = True
        self._refill_at = 0
        self._served_last = ""

    @property
    def holds(self) -> set[JobId]:
        """The jobs that this consumer has claimed, running or waiting."""
        return {*self.running, *(job.id for job, _ in self._held)}

    @property
    def is_busy(self) -> bool:
        """Whether an attempt runs here, or a claim is under way."""
        return bool(self.running) or self._is_claiming

    @property
    def is_claiming(self) -> bool:
        """Whether a claim is under way."""
        return self._is_claiming

    @property
    def claiming(self) -> ClaimToken | None:
        """The token of a claim that the store has not answered yet."""
        return self._unanswered

    async def turn(self) -> timedelta:
        """Claim as many jobs as there is room for, and return how long to wait for a wake-up."""
        if self.is_draining:
            await self._give_back_unanswered()
            return self._poll_interval
        if self._is_at_rest():
            self.give_back_held()
            return self._poll_interval
        if self._settler.unsettled > MOST_UNSETTLED:
            return _SETTLE_PAUSE
        free, wanted = self._slots - len(self.running), self._wanted()
        if wanted <= 0:
            return self._rest()
        claim = await self._claim(wanted, slots=max(0, free - len(self._held)))
        if self._solitude.is_wanted or self.is_draining:
            self._give_back(claim.jobs)
            return self._poll_interval
        claimed = self._clock.monotonic()
        self._held.extend((job, claimed) for job in claim.jobs)
        self._is_dry = len(claim.jobs) < wanted
        self._refill_at = self._pace.ahead - self._pace.ahead // 2
        self._fill()
        return self._rest() if self._is_dry else _NO_PAUSE

    def hint(self) -> None:
        """Claim again soon, after a hint that there are jobs."""
        self._is_dry = False
        self._wake()

    def drain(self) -> None:
        """Claim no more, release the jobs that wait, and announce the stop to the handlers that run."""
        self.is_draining = True
        self.give_back_held()
        for attempt in list(self.running.values()):
            attempt.announce(Stop.SHUTDOWN, SHUTTING_DOWN)

    def give_back_held(self) -> None:
        """Release the jobs that have not started; they lose no attempt."""
        held, self._held = tuple(self._held), deque()
        if held:
            # They may be had again when a slot is free.
            self._is_dry = False
        self._give_back([job for job, _ in held])

    def give_back_held_of(self, queues: Collection[str]) -> None:
        """Release the jobs of these queues that have not started."""
        given = [each for each in self._held if each[0].queue in queues]
        if given:
            self._held = deque(each for each in self._held if each[0].queue not in queues)
            self._give_back([job for job, _ in given])

    def give_back_held_one(self, job_id: JobId) -> None:
        """Release one job if it has not started, so that the store can cancel it."""
        for held in self._held:
            if held[0].id == job_id:
                self._held.remove(held)
                self._give_back([held[0]])
                return

    def drop_held(self) -> None:
        """Forget the jobs that have not started, which other workers have now."""
        self._held.clear()

    def stop_running(self, stop: Stop, reason: str = "") -> None:
        """Interrupt all running attempts."""
        for attempt in list(self.running.values()):
            attempt.tell_to_stop(stop, reason)

    def _wanted(self) -> int:
        ahead = self._pace.ahead if self._claims_ahead else 0
        room = self._slots + ahead - len(self.running) - len(self._held)
        # A claim of few jobs costs as much as a large one: wait until half of the held jobs have started.
        if self._held and room < self._pace.ahead // 2:
            return 0
        return min(room, _MOST_AT_ONCE)

    async def _claim(self, wanted: int, *, slots: int) -> Claim:
        # After a lost answer the same token is sent again, and gives the same jobs.
        self._unanswered = self._unanswered or ClaimToken(secrets.token_hex(8))
        self._is_claiming = True
        try:
            claim = await self._backend.claim(
                self.queue,
                limit=wanted,
                slots=slots,
                node=self._membership.node_id,
                token=self._unanswered,
                after=self._served_last,
                quarantined=self._quarantine_places(),
            )
        finally:
            self._is_claiming = False
        self._availability.mark_working(by=self.name)
        self._unanswered = None
        if claim.jobs:
            self._served_last = claim.jobs[-1].queue
        return claim

    async def _give_back_unanswered(self) -> None:
        if self._unanswered is not None:
            claim = await self._claim(1, slots=0)
            self._give_back(claim.jobs)

    def _rest(self) -> timedelta:
        if not self._held:
            return self._poll_interval
        _, claimed = self._held[0]
        too_long = claimed + self._horizon * _LONGEST_HELD - self._clock.monotonic()
        if too_long <= 0:
            # Until a slot is free: this worker must not claim the same jobs again, which others may start.
            self._claims_ahead = False
            self.give_back_held()
            return self._poll_interval
        return timedelta(seconds=too_long)

    def _give_back(self, jobs: Iterable[ClaimedJob], *, delay: timedelta = _NO_PAUSE) -> None:
        reason = SHUTTING_DOWN if self.is_draining else "not started"
        for job in jobs:
            self._settler.put(job, Settlement(id=job.id, token=job.token, end=End.RELEASE, delay=delay, reason=reason))

    def _fill(self) -> None:
        loop, held, running = asyncio.get_running_loop(), self._held, self.running
        solitude, membership = self._solitude, self._membership
        # The same as `_is_at_rest`, without a call for each job. Without this check a worker that was suspended past
        # its lease would run jobs that other workers have run since.
        while held and len(running) < self._slots and not (solitude.is_wanted or membership.is_in_doubt):
            job, claimed = held.popleft()
            if job.id in running:
                # Rescued and claimed again while its first run is still stopping here: do not run both.
                self._give_back([job], delay=_UNTIL_IT_STOPS)
                continue
            attempt = running[job.id] = Attempt(job, claimed=claimed)
            if not job.has_started and self._pace.is_slow:
                attempt.is_among_long = True
            # The loop's task factory may be eager, and would run the job at once.
            # This may run in the context of another attempt, which must not become this attempt's.
            context = self._base.fresh()
            # With a name, because asyncio would make one up for each task.
            attempt.task = asyncio.Task(self._work(attempt), loop=loop, name=job.task, context=context)

    def _is_at_rest(self) -> bool:
        """Whether no job may start: this worker may have lost its jobs, or one job runs alone."""
        return self._solitude.is_wanted or self._membership.is_in_doubt

    async def _work(self, attempt: Attempt) -> None:
        job = attempt.job
        end: AttemptEnd | None
        try:
            end = await self._run(attempt)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not _is_under_way(attempt):
                # The loop has ended, and the attempt is being freed.
                raise
            # Without a settlement the job would be run again and again.
            end = self._end_of_fault(attempt, error)
        finally:
            del self.running[job.id]
            self._claims_ahead = True
            # The job's view refers to the attempt, so the garbage collector would have to free both.
            attempt.context = attempt.onlooker = None
            if attempt.ignored:
                # A subscriber may not run in the attempt's context, which is the current one.
                self._base.fresh().run(self._on_freed, attempt)
        if end is not None:
            # Asked first, because nearly all ends are to be written.
            if isinstance(end, Settlement):
                settlement = end
                self._settler.put(job, settlement)
            else:
                settlement = end.settlement
                self._settle(job, end)
            if settlement.ran_for is not None:
                self._pace.observe(settlement.ran_for.total_seconds())
        if self._held:
            self._fill()
        # After an empty claim the next one waits for a hint, or for the poll interval.
        if len(self._held) <= self._refill_at and not self._is_dry and not self._is_claiming:
            self._wake()

    def _settle(self, job: ClaimedJob, end: Stored | PerhapsStored) -> None:
        if isinstance(end, PerhapsStored):
            self._settler.put(job, end.settlement, is_repeat=True)
        else:
            # A subscriber may not run in the attempt's context, which is the current one.
            self._base.fresh().run(self._settler.announce, job, end)

    def _end_of_fault(self, attempt: Attempt, error: BaseException) -> Settlement | None:
        """
        Return the settlement of an attempt that could not be run.

        The job is released only if the store was away, and only before its handler had started.
        """
        job = attempt.job
        with suppress(BaseException):
            _logger.error("the job %s could not be run", job.id, exc_info=error, extra={"job_id": job.id})
        if attempt.stop is Stop.LOST:
            return None
        if issubclass(type(error), BackendUnavailableError) and attempt.context is None:
            reason = "it could not be run"
            return Settlement(id=job.id, token=job.token, end=End.RELEASE, delay=_AFTER_A_FAULT, reason=reason)
        return self._fault(attempt, error)


def _is_under_way(attempt: Attempt) -> bool:
    """Whether this code runs as a step of the attempt's task, and not while the task is freed."""
    try:
        return asyncio.current_task() is attempt.task
    except RuntimeError:
        return False
