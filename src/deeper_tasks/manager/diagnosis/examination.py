"""The examination: first the store, then, if it can be opened, its jobs, queues and workers."""

from __future__ import annotations

from collections.abc import Callable

from deeper_tasks.backends.migrations import OtherVersionError
from deeper_tasks.backends.protocol import BROKEN_OFF, NOT_EXAMINED, RIGHTS, Backend, Diagnosable
from deeper_tasks.config import Settings
from deeper_tasks.domain.finding import Finding, OnCheck, Severity, fault, fine, warning
from deeper_tasks.errors import AccessError, BackendError, BackendUnavailableError, SchemaError
from deeper_tasks.manager.diagnosis import clock, damage, jobs, queues, schedules, tasks, upkeep, workers
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot, look_around
from deeper_tasks.manager.parts import Parts
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
    parts: Parts, *, settings: Settings, registry: TaskRegistry, deep: bool, on_check: OnCheck
) -> list[Finding]:
    """Return the findings, in the order of the checks. A store that fails is a finding; a missing store is not made."""
    backend, store = parts.backend, parts.terms.store
    findings: list[Finding] = []
    if not backend.capabilities.runs_jobs:
        return [_switched_off(settings, store)]
    if isinstance(backend, Diagnosable):
        on_check("the whole store" if deep else "the store")
        findings += await backend.diagnose(deep=deep)
    try:
        await backend.open(create=False)
    except BackendError as error:
        return [*findings, *_unless_reported(error, findings)]
    findings.append(fine("store", f"{store} answers, and its schema is this version's"))
    if any(finding.check == NOT_EXAMINED for finding in findings):
        return findings
    try:
        on_check("its jobs, queues and workers")
        snapshot = await look_around(backend, settings=settings, registry=registry)
    except BackendError as error:
        return [*findings, *_unless_reported(error, findings)]
    for name, check in _CHECKS.items():
        on_check(name)
        findings += check(snapshot)
    on_check("damaged rows")
    findings += await _examine_damage(backend, snapshot) if deep else damage.examine(snapshot)
    return findings


def _switched_off(settings: Settings, store: str) -> Finding:
    """Return the finding for a manager with tasks disabled, which has no store to examine."""
    why = "enabled is false" if not settings.enabled else f"its store is {store}"
    message = f"tasks are disabled here ({why}): every job is accepted, and none is kept or run; no store was examined"
    return warning("switched off", message, "set enabled = true, and a url other than noop://")


async def _examine_damage(backend: Backend, snapshot: StoreSnapshot) -> list[Finding]:
    try:
        return await damage.examine_deeply(backend, snapshot)
    except BackendError as error:
        return [_refused(error)]


def _unless_reported(error: BackendError, findings: list[Finding]) -> list[Finding]:
    """Return an error as a finding, unless the store has reported it already: missing rights, or that it is away."""
    reported = {finding.check for finding in findings if finding.severity is Severity.ERROR}
    is_reported = (isinstance(error, AccessError) and RIGHTS in reported) or (
        isinstance(error, BackendUnavailableError) and BROKEN_OFF in reported
    )
    return [] if is_reported else [_refused(error)]


def _refused(error: BackendError) -> Finding:
    match error:
        case OtherVersionError():
            return fault("schema", str(error), "set url to a new file or schema")
        case SchemaError():
            return fault("schema", str(error), "bring the schema up to date: deeper migrate")
        case BackendUnavailableError():
            return fault("store", str(error), "see to the store, or correct its URL")
        case _:
            return fault("store", str(error), "see the message")
