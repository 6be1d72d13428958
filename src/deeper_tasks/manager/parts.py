"""The parts of a manager that work on its store, and their assembly."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from deeper_tasks.backends.availability import Availability
from deeper_tasks.backends.protocol import Backend, Located
from deeper_tasks.config import Settings, redacted
from deeper_tasks.integrations.events import EventBus, StoreMade
from deeper_tasks.manager.control import JobControl
from deeper_tasks.manager.producer import Producer
from deeper_tasks.manager.recurring import RecurringTasks
from deeper_tasks.manager.store_access import StoreAccess
from deeper_tasks.manager.store_terms import StoreTerms
from deeper_tasks.manager.stores import begins_elsewhere, make_backend, shown_backend, shown_store
from deeper_tasks.manager.transactions import terms_of
from deeper_tasks.tasks import ManagerIdentity


class Parts(Struct, frozen=True, kw_only=True):
    """
    The collaborators of a manager's areas, all for one store.

    The testing kit exchanges them as a whole, or single ones of them, by `ManagerCore.exchanged`.
    """

    store: StoreAccess
    terms: StoreTerms
    producer: Producer
    recurring: RecurringTasks
    control: JobControl

    @property
    def backend(self) -> Backend:
        """The store itself."""
        return self.store.backend

    @property
    def availability(self) -> Availability:
        """Whether the store answers, as far as this process knows."""
        return self.store.availability


def assemble(
    settings: Settings,
    *,
    events: EventBus,
    identity: ManagerIdentity,
    backend: Backend | None = None,
    store_name: str | None = None,
) -> Parts:
    """
    Return the parts for a store: `backend`, or the one that the settings' URL names.

    `store_name` is what error messages call the store; by default its URL without secrets, or the backend's class, and
    the path of the store's file, if it has one.
    """
    is_by_url = backend is None
    if backend is None:
        backend = _backend_of(settings)
        store_name = store_name or shown_store(settings.url if settings.enabled else "noop://", backend)
    store = StoreAccess(
        backend,
        availability=Availability(bus=events),
        on_new_store=partial(_report_new_store, backend, url=settings.url, is_by_url=is_by_url, events=events),
    )
    name = store_name or shown_backend(backend)
    terms = StoreTerms(
        store=name, capabilities=backend.capabilities, transactions=terms_of(backend, settings, store=name)
    )
    producer = Producer(
        store=store,
        settings=settings,
        bus=events,
        identity=identity,
        check=terms.check,
    )
    return Parts(
        store=store,
        terms=terms,
        producer=producer,
        recurring=RecurringTasks(backend=backend, jobs=producer.jobs, bus=events, terms=terms),
        control=JobControl(backend=backend, bus=events),
    )


def _backend_of(settings: Settings) -> Backend:
    if not settings.enabled:
        return make_backend("noop://")
    return make_backend(settings.url, listen_url=settings.listen_url, joined_hints=settings.joined_hints)


def _report_new_store(backend: Backend, is_worker: bool, *, url: str, is_by_url: bool, events: EventBus) -> None:  # noqa: FBT001 - called by `StoreAccess` alone
    place = backend.location if isinstance(backend, Located) else redacted(url)
    is_elsewhere = is_by_url and isinstance(backend, Located) and begins_elsewhere(url, backend.location)
    events.emit(StoreMade(place=place, url=redacted(url), is_worker=is_worker, is_elsewhere=is_elsewhere))
