"""Events: what happened, as typed values, and the bus that brings them to subscribers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from deeper_tasks import native
from deeper_tasks.domain.ids import JobId, NodeId
from deeper_tasks.domain.job import EXPIRED, ErrorReport
from deeper_tasks.domain.schedule_run import RunOutcome
from deeper_tasks.domain.settlement import End
from deeper_tasks.domain.state import State
from deeper_tasks.domain.view import View
from deeper_tasks.forks import process_watch

_logger = logging.getLogger("deeper_tasks")


class Event(View, frozen=True, kw_only=True):
    """Something that happened."""


class JobEvent(Event, frozen=True, kw_only=True):
    """
    Something that happened to a job. `attempt` is 0 before its first.

    A job that ends is told by exactly one of `JobCompleted`, `JobFailed`, `JobDiscarded` and `JobCancelled`, whatever
    ended it: its worker, an expiry, the rescue from a dead worker, or a request. `JobExpired` is a `JobFailed`.
    """

    job_id: JobId
    task: str = ""
    queue: str = ""
    attempt: int = 0


class JobEnqueued(JobEvent, frozen=True, kw_only=True):
    """
    An enqueue was written. `is_new` is False when it met a job that was there already.

    One inside the caller's own transaction is told of when its commit was seen, in
    a thread of the manager's: of a job that was rolled back there is no event.
    """

    is_new: bool = True
    scheduled_at: datetime | None = None
    delay: timedelta = timedelta(0)


class JobStarted(JobEvent, frozen=True, kw_only=True):
    """An attempt starts. `wait` is the time since the job was due."""

    wait: timedelta


class JobQuarantined(JobEvent, frozen=True, kw_only=True):
    """
    The attempt after one that was lost with its worker runs apart from the others.

    It runs in a process of its own, or, if `is_alone`, in its worker with no other beside it.
    """

    is_alone: bool


class JobCompleted(JobEvent, frozen=True, kw_only=True):
    """A handler returned, and that is stored."""

    ran_for: timedelta


class JobRetried(JobEvent, frozen=True, kw_only=True):
    """An attempt failed; the next follows after `delay`."""

    max_attempts: int
    error: ErrorReport
    delay: timedelta
    ran_for: timedelta | None = None


class JobSnoozed(JobEvent, frozen=True, kw_only=True):
    """A handler put its job off for `delay`."""

    delay: timedelta
    ran_for: timedelta | None = None


class JobReleased(JobEvent, frozen=True, kw_only=True):
    """
    A worker gave a job back without using an attempt.

    The log has it at DEBUG where `TaskUnknown` or `ArgumentsUnfit` told it.
    """

    reason: str


class JobFailed(JobEvent, frozen=True, kw_only=True):
    """A job ended by an error that no retry can mend: a dead letter."""

    error: ErrorReport
    ran_for: timedelta | None = None


class JobDiscarded(JobEvent, frozen=True, kw_only=True):
    """A job used up its attempts: a dead letter."""

    error: ErrorReport
    ran_for: timedelta | None = None


class JobCancelled(JobEvent, frozen=True, kw_only=True):
    """A job was stopped by request."""

    reason: str = ""
    ran_for: timedelta | None = None


class JobRescheduled(JobEvent, frozen=True, kw_only=True):
    """
    A job that waits was given another due time, by request. It is in `state` now.

    A job that is `pending` was put to now, or called to run now.
    """

    state: State
    scheduled_at: datetime


class JobRescued(JobEvent, frozen=True, kw_only=True):
    """
    A job was taken from the dead worker `node`, and is in `state` now. Where that is an end, its own event follows.

    `attempt` is the one that was lost.
    """

    node: NodeId
    state: State


class JobExpired(JobFailed, frozen=True, kw_only=True):
    """A job was not started in time, and failed: a dead letter. Subscribers to `JobFailed` hear of it too."""

    error: ErrorReport = EXPIRED


class SettlementRefused(JobEvent, frozen=True, kw_only=True):
    """The end of an attempt was not written: the job is no longer this worker's."""

    end: End


class TaskUnknown(JobEvent, frozen=True, kw_only=True):
    """This worker does not know the task; the job was given back for `delay`."""

    delay: timedelta


class ArgumentsUnfit(JobEvent, frozen=True, kw_only=True):
    """The arguments do not fit the task as this worker knows it; the job was given back for `delay`."""

    delay: timedelta
    reason: str


class TaskIgnoresTimeout(JobEvent, frozen=True, kw_only=True):
    """
    An attempt runs on after its timeout, which nothing can end: it keeps its slot. Told once for each.

    `place` is the line where it is. `lost` of the worker's `slots` are lost in this way now; the worker
    goes on with the others.
    """

    timeout: timedelta | None = None
    place: str = ""
    lost: int = 0
    slots: int = 0


class SlotFreed(JobEvent, frozen=True, kw_only=True):
    """An attempt that ran on after its timeout has ended at last, `after` that long: its slot is free again."""

    after: timedelta
    lost: int = 0
    slots: int = 0


class ResultOmitted(JobEvent, frozen=True, kw_only=True):
    """A job completed without its result being stored."""

    reason: str


class QueueNearCapacity(Event, frozen=True, kw_only=True):
    """
    The pending jobs of a queue have come to 80 % of the `queue_capacity` of the settings.

    One worker of the fleet tells it; and again, once they have fallen to 70 % in between.
    """

    queue: str
    pending: int
    capacity: int


class QueuePaused(Event, frozen=True, kw_only=True):
    """An operator paused a queue: no worker starts its jobs until it is resumed."""

    queue: str


class QueueResumed(Event, frozen=True, kw_only=True):
    """An operator had the jobs of a queue started again."""

    queue: str


class ScheduleFired(Event, frozen=True, kw_only=True):
    """
    A recurring task was due. `jobs` is empty where all its runs were held back.

    `held_back` says why runs made no job: `skipped_overlap` (its last job has not ended), `skipped_unique`
    (another job holds its unique key), `skipped_missed`.
    """

    name: str
    jobs: tuple[JobId, ...]
    next_run: datetime | None = None
    held_back: tuple[RunOutcome, ...] = ()


class ScheduleRepaired(Event, frozen=True, kw_only=True):
    """A next run lay impossibly far ahead (a clock was wrong once) and was put back."""

    name: str
    was: datetime
    next_run: datetime


class SchedulePaused(Event, frozen=True, kw_only=True):
    """An operator paused a recurring task."""

    name: str


class ScheduleResumed(Event, frozen=True, kw_only=True):
    """An operator had a recurring task go on; it is due next at `next_run`."""

    name: str
    next_run: datetime


class ScheduleRemoved(Event, frozen=True, kw_only=True):
    """A recurring task was removed: by an operator, or because the code no longer declares it."""

    name: str
    was_declared: bool = False


class ScheduleOrphaned(Event, frozen=True, kw_only=True):
    """A recurring task was declared by code, and the worker that starts does not know its task."""

    name: str
    task: str


class CleanupRan(Event, frozen=True, kw_only=True):
    """
    Ended jobs past their retention were deleted.

    A worker tells it of each batch; if `is_manual`, a call of `cleanup_old_tasks` of all that it deleted, and if it
    was none.
    """

    deleted: int
    took: timedelta
    is_manual: bool = False


class WorkerStarted(Event, frozen=True, kw_only=True):
    """A worker registered and claims jobs. Where tasks are switched off it claims none, and `runs_jobs` is False."""

    node: NodeId
    queues: dict[str, int]
    runs_jobs: bool = True


class QueuesUnserved(Event, frozen=True, kw_only=True):
    """
    A worker has started, and neither it nor another live worker serves the queues of some of its own tasks.

    `unserved` has the names of these tasks by queue; `queues` is what the worker serves.
    """

    node: NodeId
    queues: dict[str, int]
    unserved: dict[str, tuple[str, ...]]


class WorkerStopping(Event, frozen=True, kw_only=True):
    """A worker claims no more, and waits for the jobs that run."""

    node: NodeId
    queues: dict[str, int]
    running: int = 0


class WorkerStopped(Event, frozen=True, kw_only=True):
    """A worker ended in order."""

    node: NodeId
    queues: dict[str, int]


class WorkerStuck(Event, frozen=True, kw_only=True):
    """A worker cannot go on, as when it has lost too many slots: it drains and ends, for another to take its place."""

    node: NodeId
    queues: dict[str, int]
    reason: str


class NodeLost(Event, frozen=True, kw_only=True):
    """This worker was taken for dead: it stops what it runs and registers anew."""

    node: NodeId


class LoopStalled(Event, frozen=True, kw_only=True):
    """
    The worker's event loop is blocked, so none of its coroutines gets on.

    Told once for each job whose code blocks it, also if one follows another before the loop turns. `stalled_for` is how
    long that code has blocked it so far, `in_all` how long the loop has not turned; `stack` is where. `job_id` and the
    rest name the job whose code it is; None, where it is no job's: middleware, a callback, a subscriber, an application
    beside the worker.
    """

    stalled_for: timedelta
    stack: str
    in_all: timedelta = timedelta(0)
    job_id: JobId | None = None
    task: str = ""
    queue: str = ""
    attempt: int = 0


class LoopRecovered(Event, frozen=True, kw_only=True):
    """The event loop turns again, blocked for `after` by what `LoopStalled` named. Told once for each of those."""

    after: timedelta
    job_id: JobId | None = None
    task: str = ""
    queue: str = ""
    attempt: int = 0


class StoreMade(Event, frozen=True, kw_only=True):
    """
    A new, empty store was made where there was none. `place` is the absolute path of its file, or its URL.

    With `is_worker` a worker tells so that serves it: where jobs were expected, its URL or its working
    folder is another than the enqueuer's. With `is_elsewhere` the path in the URL begins at a working folder from which
    the program imports nothing, so that it may be the wrong one. Then the log has it at WARNING, and at INFO otherwise.
    """

    place: str
    url: str
    is_worker: bool = False
    is_elsewhere: bool = False


class StoreUnavailable(Event, frozen=True, kw_only=True):
    """The store does not answer a part of this process that tries again. Told once, not at every try."""

    error: str


class StoreRecovered(Event, frozen=True, kw_only=True):
    """The store answers all parts of this process again, and has for a while. It did not for `after`."""

    after: timedelta


Subscriber = Callable[[Any], None]
"""Called with an event of one of the kinds subscribed to, in the thread where it happened; must not wait."""


class _Subscription:
    def __init__(
        self, call: Subscriber, kinds: tuple[type[Event], ...], is_wanted: Callable[[type[Event]], bool] | None
    ) -> None:
        self.call = call
        self.kinds = kinds
        self.is_wanted = is_wanted
        self.has_failed = False


class EventBus:
    """
    Brings events to subscribers, in the order they subscribed, before `emit` returns.

    May be used from any thread. A subscriber that raises disturbs no other; its
    first error is logged.
    """

    def __init__(self) -> None:
        self._lock = native.allocate_lock()
        process_watch.add(self)
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._by_kind: dict[type[Event], tuple[_Subscription, ...]] = {}

    def subscribe(
        self,
        subscriber: Subscriber,
        *kinds: type[Event],
        is_wanted: Callable[[type[Event]], bool] | None = None,
    ) -> Callable[[], None]:
        """
        Call `subscriber` for events of these kinds and of their subclasses; for all, when none is given.

        `is_wanted` is asked before an event of a kind is made, and may change its
        answer at any time. Returns a function that ends the subscription.
        """
        subscription = _Subscription(subscriber, kinds or (Event,), is_wanted)
        with self._lock:
            self._change((*self._subscriptions, subscription))

        def unsubscribe() -> None:
            with self._lock:
                self._change(tuple(each for each in self._subscriptions if each is not subscription))

        return unsubscribe

    def forget_parent(self) -> None:
        """In the child of a fork: another thread of the parent may have held the lock."""
        self._lock = native.allocate_lock()

    def wants(self, kind: type[Event]) -> bool:
        """Whether a subscriber wants events of this kind; if not, there is no need to make one."""
        try:
            # Every job asks this: what is known of a kind is looked up without a call.
            for each in self._by_kind.get(kind) or self._interested(kind):
                if each.is_wanted is None or each.is_wanted(kind):
                    return True
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and _may_be_interrupted():
                raise
            # `emit` meets it again, and tells of it.
            return True
        return False

    def emit(self, event: Event) -> None:
        """Tell the subscribers. Never raises."""
        kind = type(event)
        for subscription in self._interested(kind):
            try:
                if subscription.is_wanted is None or subscription.is_wanted(kind):
                    subscription.call(event)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and _may_be_interrupted():
                    raise
                self._note_failure(subscription, kind, error)

    def _note_failure(self, subscription: _Subscription, kind: type[Event], error: BaseException) -> None:
        if not subscription.has_failed:
            subscription.has_failed = True
            # The subscriber may be the log itself.
            with suppress(BaseException):
                _logger.error(
                    "a subscriber to events failed at %s; its further errors are not logged",
                    kind.__name__,
                    exc_info=error,
                )

    def _interested(self, kind: type[Event]) -> tuple[_Subscription, ...]:
        table = self._by_kind
        interested = table.get(kind)
        if interested is None:
            interested = tuple(each for each in self._subscriptions if issubclass(kind, each.kinds))
            table[kind] = interested
        return interested

    def _change(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self._by_kind = {}


def _may_be_interrupted() -> bool:
    """Whether Ctrl-C may be raised here: only in the main thread, and a loop that runs there hears it otherwise."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return threading.current_thread() is threading.main_thread()
    return False
