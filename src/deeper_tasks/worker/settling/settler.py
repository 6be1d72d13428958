"""The settler: writes the ends of attempts to the store, in batches of all that gathered during the last write."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from msgspec.structs import replace

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.job import ClaimedJob, ErrorReport
from deeper_tasks.domain.redactor import Redactor
from deeper_tasks.domain.settlement import End, MovedJob, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.worker.redaction import Redaction
from deeper_tasks.worker.settling.attempt_end import Stored
from deeper_tasks.worker.store_access import StoreAccess

_logger = logging.getLogger("deeper_tasks")

MOST_TOGETHER = 500
_NAME = "settler"
_LOCKED_DELAY = 2.0
"""Delay in seconds before a settlement is tried again whose row another transaction has locked."""
_NOT_STORED = "the result or the error of this attempt could not be stored"
MOST_UNSETTLED = 5_000
"""The number of waiting settlements above which the worker claims no more: the store is slow, or away."""

Answered = tuple[ClaimedJob, Settlement, State | None]
"""A settlement that the store has answered: with the job's state now, or None if it was refused."""
OnSettled = Callable[[Sequence[Answered]], None]
OnStrayEnded = Callable[[MovedJob], None]
"""Called with a job that this worker released without holding it, and that ended by the release."""

_Item = tuple[ClaimedJob | None, Settlement]
"""A settlement and its job; the job is None if this worker does not hold it."""
_Attempt = tuple[JobId, ClaimToken]


class Settler:
    """
    Takes settlements and writes them. While the store is away they are kept.

    A settlement counts as unsettled until the store has answered, so a shutdown can wait for the last one. If the
    store leaves a settlement out of its answer that was sent before, and whose first answer was lost, its result is
    unknown: it may have been written, and its job claimed again or deleted since. No event is emitted for it.
    """

    def __init__(
        self,
        store: StoreAccess,
        *,
        on_settled: OnSettled,
        on_stray_ended: OnStrayEnded | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self._backend = store.backend
        self._clock = store.clock
        self._availability = store.availability
        self._on_settled = on_settled
        self._on_stray_ended = on_stray_ended
        self._redaction = redaction or Redaction(Redactor())
        self._waiting: deque[_Item] = deque()
        self._delayed: deque[tuple[float, _Item]] = deque()
        self._repeats: set[_Attempt] = set()
        self._awake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._back = asyncio.Event()

    @property
    def unsettled(self) -> int:
        """How many settlements wait to be written."""
        return len(self._waiting) + len(self._delayed)

    @property
    def ends(self) -> set[_Attempt]:
        """The attempts whose settlements wait here."""
        items = (*self._waiting, *(item for _, item in self._delayed))
        return _attempts(items)

    def put(self, job: ClaimedJob, settlement: Settlement, *, is_repeat: bool = False) -> None:
        """Have the settlement of an attempt written soon. `is_repeat` says that the store may have one already."""
        if is_repeat:
            self._repeats.add((settlement.id, settlement.token))
        if settlement.error is not None or settlement.result_omitted is not None or settlement.reason:
            settlement = self._redaction.settlement(settlement)
        if not self._waiting:
            self._begin()
        self._waiting.append((job, settlement))

    def announce(self, job: ClaimedJob, end: Stored) -> None:
        """Announce an end that the store has already, like those that are written here."""
        self._answer([(job, end.settlement, end.state)])

    def forget(self, settlement: Settlement) -> None:
        """Have a job released that this worker does not hold. An event follows only if a cancel then ends the job."""
        if not self._waiting:
            self._begin()
        self._waiting.append((None, settlement))

    async def wait_until_idle(self) -> None:
        """Return when all settlements that were put so far are written."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            batch = await self._next_batch()
            try:
                await self._write(batch)
                self._availability.mark_working(by=_NAME)
            except BackendUnavailableError as error:
                # They may be written. If the error names jobs, all other settlements were written.
                self._repeats |= _attempts(item for item in batch if item[1].id not in error.job_ids)
                if self._delay(frozenset(error.job_ids)):
                    continue
                self._availability.mark_failing(error, by=_NAME)
                self._back.clear()
                await self._availability.pause(self._clock.sleep, until=self._back)
            except Exception:
                with suppress(BaseException):
                    _logger.exception("a batch of %d settlements was refused; each is tried by itself", len(batch))
                await self._write_one_by_one(len(batch))

    async def _next_batch(self) -> list[_Item]:
        """Wait for settlements, and return the first ones, which are to be written together."""
        while True:
            again = self._due_again()
            if again:
                self._waiting.extendleft(reversed(again))
                return _each_job_once(again)
            if self._waiting:
                return _each_job_once(list(islice(self._waiting, MOST_TOGETHER)))
            if not self._delayed:
                self._idle.set()
            self._awake.clear()
            pause = self._delayed[0][0] - self._clock.monotonic() if self._delayed else None
            await self._clock.sleep(pause, until=self._awake)

    def _due_again(self) -> list[_Item]:
        """Take the settlements that were set aside for long enough. They may hold up others, so they are sent alone."""
        due: list[_Item] = []
        while self._delayed and self._delayed[0][0] <= self._clock.monotonic() and len(due) < MOST_TOGETHER:
            due.append(self._delayed.popleft()[1])
        return due

    def _delay(self, ids: frozenset[str]) -> bool:
        """Set the settlements of these jobs aside. All others were written, and sent again they are answered."""
        held = [item for item in self._waiting if item[1].id in ids]
        if held:
            _logger.warning("settlements of %d jobs wait: another transaction has locked their rows", len(held))
            self._waiting = deque(item for item in self._waiting if item[1].id not in ids)
            again = self._clock.monotonic() + _LOCKED_DELAY
            self._delayed.extend((again, item) for item in held)
        return bool(held)

    def _begin(self) -> None:
        """Wake the loop for a settlement that is about to wait."""
        self._idle.clear()
        self._awake.set()

    async def _write(self, batch: Sequence[_Item]) -> None:
        settled = await self._backend.settle([settlement for _, settlement in batch])
        states = {answer.id: answer.state for answer in settled}
        for _ in batch:
            self._waiting.popleft()
        if self._repeats:
            batch = self._without_unknown(batch, states)
        answered = [(job, settlement, states.get(job.id)) for job, settlement in batch if job is not None]
        self._answer(answered)
        if len(answered) < len(batch):
            await self._announce_strays([one.id for job, one in batch if job is None], states)

    async def _announce_strays(self, ids: Sequence[JobId], states: dict[JobId, State]) -> None:
        for job_id in ids:
            if self._on_stray_ended is None or job_id not in states or not states[job_id].is_terminal:
                continue
            # The release is written, so an error here only costs the event.
            with suppress(Exception):
                job = await self._backend.get(job_id)
                if job is not None and job.state.is_terminal:
                    self._on_stray_ended(MovedJob.of(job))

    def _without_unknown(self, batch: Sequence[_Item], states: dict[JobId, State]) -> list[_Item]:
        repeats = _attempts(batch) & self._repeats
        self._repeats -= repeats
        return [item for item in batch if item[1].id in states or (item[1].id, item[1].token) not in repeats]

    def _answer(self, answered: Sequence[Answered]) -> None:
        """Announce settlements that are written. An error of a subscriber does not change that they are."""
        try:
            self._on_settled(answered)
        except BaseException:
            with suppress(BaseException):
                _logger.exception("the stored ends of %d attempts could not be reported", len(answered))

    async def _write_one_by_one(self, count: int) -> None:
        """Write the first `count` one by one; if the store cannot take one, write a plainer form of it."""
        for _ in range(count):
            job, settlement = self._waiting[0]
            for form in (settlement, *_plainer(settlement)):
                self._waiting[0] = (job, form)
                try:
                    await self._write([(job, form)])
                except BackendUnavailableError:
                    self._repeats.add((settlement.id, settlement.token))
                    return
                except Exception:
                    with suppress(BaseException):
                        _logger.exception(
                            "the settlement of the job %s could not be stored", form.id, extra={"job_id": form.id}
                        )
                else:
                    break
            else:
                # Even the plainest form was refused. The next beat finds that no worker runs the job, and releases it.
                self._waiting.popleft()
                self._repeats.discard((settlement.id, settlement.token))


def _attempts(items: Iterable[_Item]) -> set[_Attempt]:
    return {(settlement.id, settlement.token) for _, settlement in items}


def _each_job_once(batch: list[_Item]) -> list[_Item]:
    """Return the settlements before the second one of a job, because the store's answers name jobs, not attempts."""
    if len({settlement.id for _, settlement in batch}) == len(batch):
        return batch
    seen: set[JobId] = set()
    for place, (_, settlement) in enumerate(batch):
        if settlement.id in seen:
            return batch[:place]
        seen.add(settlement.id)
    return batch


def _plainer(settlement: Settlement) -> Iterator[Settlement]:
    """Yield settlements to store instead of a refused one, each with less content than the one before."""
    if settlement.end is End.COMPLETE:
        yield replace(settlement, result=None, result_omitted=_NOT_STORED)
        yield Settlement(id=settlement.id, token=settlement.token, end=End.COMPLETE)
        return
    report = None if settlement.error is None else ErrorReport(kind="NotStored", message=_NOT_STORED)
    # Tried first, because its other fields count for later attempts.
    yield replace(settlement, error=report)
    # The delay could not be stored, or the error could not be added to earlier ones.
    yield Settlement(id=settlement.id, token=settlement.token, end=End.FAIL, error=report)
    yield Settlement(id=settlement.id, token=settlement.token, end=End.FAIL)
