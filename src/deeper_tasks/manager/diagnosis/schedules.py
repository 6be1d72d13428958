"""The recurring tasks: those overdue, paused, never due, or of a task that the application does not have."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fault, fine, warning
from deeper_tasks.domain.schedule import ON_TIME, Schedule, ScheduleEntry
from deeper_tasks.manager.diagnosis.jobs import is_known
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot
from deeper_tasks.manager.diagnosis.wording import count


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return what is found about the recurring tasks."""
    if not snapshot.has_schedules:
        return []
    entries = snapshot.book.entries
    findings = [finding for entry in entries for finding in _of_entry(snapshot, entry)]
    findings += [_of_removed(schedule) for schedule in snapshot.book.removed]
    return findings or [fine("recurring tasks", f"{count(len(entries), 'recurring task')}, none of them late")]


def _of_removed(schedule: Schedule) -> Finding:
    name = schedule.name
    return warning(
        "removed recurring task",
        f"{name!r} stands in the code, was removed by request, and fires nothing until its definition changes",
        f"take cron= out of its task; or bring it back: deeper schedules resume {quote(name)}",
    )


def _of_entry(snapshot: StoreSnapshot, entry: ScheduleEntry) -> Iterator[Finding]:
    if entry.damage:
        return  # reported with the damaged rows
    name, late = entry.schedule.name, snapshot.book.now - entry.next_run
    reason = entry.schedule.recurrence.fault
    if reason is not None:
        yield fault(
            "recurring task never due",
            f"{name!r} never fires: {reason}",
            f"register it anew with another expression, or remove it: deeper schedules remove {quote(name)}",
            subject=name,
        )
    elif entry.paused_at is not None:
        yield warning(
            "paused recurring task",
            f"{name!r} has been paused for {readable(snapshot.book.now - entry.paused_at)}",
            f"deeper schedules resume {quote(name)}",
            subject=name,
        )
    elif late > ON_TIME:
        yield warning(
            "late recurring task",
            f"{name!r} was due {readable(late)} ago and has not fired",
            "any living worker fires it: start one, or see to its log",
            subject=name,
        )
    task = entry.schedule.spec.task
    if any(True for _ in snapshot.registry) and not is_known(snapshot, task):
        yield warning(
            "unknown tasks",
            f"the recurring task {name!r} is of {task!r}, which the application does not have",
            f"deploy the code that has it, or remove the entry: deeper schedules remove {quote(name)}",
            subject=name,
        )
