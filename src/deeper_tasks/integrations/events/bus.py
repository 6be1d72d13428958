"""The bus: brings events to their subscribers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from deeper_tasks import native
from deeper_tasks.forks import process_watch
from deeper_tasks.integrations.events.event import Event

_logger = logging.getLogger("deeper_tasks")

Subscriber = Callable[[Any], None]
"""Called with an event of the kinds subscribed to, in the thread where it happened. It must not wait."""


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

    It may be used from any thread. A subscriber that raises disturbs no other subscriber; its first error is logged.
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
        Call `subscriber` with events of these kinds and of their subclasses; with all events if no kind is given.

        `is_wanted` is asked before an event of a kind is made, and may change its answer at any time. Returns a
        function that ends the subscription.
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
            # Every job asks this, so a known kind is looked up without a call.
            for each in self._by_kind.get(kind) or self._interested(kind):
                if each.is_wanted is None or each.is_wanted(kind):
                    return True
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and _may_be_interrupted():
                raise
            # `emit` meets the error again, and logs it.
            return True
        return False

    def emit(self, event: Event) -> None:
        """Call the subscribers with an event. Never raises."""
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
