"""The examination: the store first, then, if it can be opened, all that goes on in it."""

from __future__ import annotations

from collections.abc import Callable

from deeper_tasks.backends.protocol import BROKEN_OFF, NOT_EXAMINED, RIGHTS, Backend, Diagnosable
from deeper_tasks.config import Settings
from deeper_tasks.domain.finding import Finding, OnCheck, Severity, fault, fine, warning
from deeper_tasks.errors import AccessError, BackendError, BackendUnavailableError, SchemaError
from deeper_tasks.manager.diagnosis import clock, damage, jobs, queues, schedules, tasks, upkeep, workers
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot, look_around
from deeper_tasks.manager.stores import shown_store
from deeper_tasks.tasks import TaskRegistry

_CHECKS: dict[str, Callable[[StoreSnapshot], list[Finding]]] = {
    "workers": workers.examine,
    "upkeep": upkeep.examine,
    "queues": queues.examine,
    "jobs": jobs.examine,
    "tasks": tasks.examine,
    "recurring tasks": schedules.examine,
    "clock": clock.examine,
}


async def examine(
    backend: Backend, *, settings: Settings, registry: TaskRegistry, deep: bool, on_check: OnCheck
) -> list[Finding]:
    """Return what is found, in the order of the checks. A store that fails is a finding. None is made."""
    findings: list[Finding] = []
    if not backend.capabilities.runs_jobs:
        return [_switched_off(settings)]
    if isinstance(backend, Diagnosable):
        on_check("the whole store" if deep else "the store")
        findings += await backend.diagnose(deep=deep)
    try:
        await backend.open(create=False)
    except BackendError as error:
        return [*findings, *_unless_told(error, findings)]
    findings.append(fine("store", f"{shown_store(settings.url, backend)} answers, and its schema is this version's"))
    if any(finding.check == NOT_EXAMINED for finding in findings):
        return findings
    try:
        on_check("what goes on in it")
        snapshot = await look_around(backend, settings=settings, registry=registry)
    except BackendError as error:
        return [*findings, *_unless_told(error, findings)]
    for name, check in _CHECKS.items():
        on_check(name)
        findings += check(snapshot)
    on_check("damaged rows")
    findings += await _examine_damage(backend, snapshot) if deep else damage.examine(snapshot)
    return findings


def _switched_off(settings: Settings) -> Finding:
    """Return what is found where tasks are disabled: no store was reached, or looked at."""
    why = "enabled is false" if not settings.enabled else "its url is noop://"
    told = f"tasks are disabled here ({why}): every job is accepted, and none is kept or run; no store was examined"
    return warning("switched off", told, "set enabled = true, and a url other than noop://")


async def _examine_damage(backend: Backend, snapshot: StoreSnapshot) -> list[Finding]:
    try:
        return await damage.examine_deeply(backend, snapshot)
    except BackendError as error:
        return [_refused(error)]


def _unless_told(error: BackendError, findings: list[Finding]) -> list[Finding]:
    """Return what an error says that was not said: of rights the store has said more, of its being away the same."""
    told = {finding.check for finding in findings if finding.severity is Severity.ERROR}
    is_told = (isinstance(error, AccessError) and RIGHTS in told) or (
        isinstance(error, BackendUnavailableError) and BROKEN_OFF in told
    )
    return [] if is_told else [_refused(error)]


def _refused(error: BackendError) -> Finding:
    match error:
        case SchemaError():
            return fault("schema", str(error), "bring the schema up to date: deeper migrate")
        case BackendUnavailableError():
            return fault("store", str(error), "see to the store, or correct its URL")
        case _:
            return fault("store", str(error), "see the message")
