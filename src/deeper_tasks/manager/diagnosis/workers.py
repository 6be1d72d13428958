"""The workers: whether any lives, and which have fallen silent."""

from __future__ import annotations

from deeper_tasks.domain.durations import readable
from deeper_tasks.domain.finding import Finding, fine, warning
from deeper_tasks.manager.diagnosis.store_snapshot import StoreSnapshot
from deeper_tasks.manager.diagnosis.wording import MANAGER, count, names

_CHECK = "workers"


def examine(snapshot: StoreSnapshot) -> list[Finding]:
    """Return what is found about the workers. Queues that no worker serves are reported with the queues."""
    living = [worker for worker in snapshot.overview.workers if worker.is_alive]
    silent = [worker for worker in snapshot.overview.workers if not worker.is_alive]
    findings = []
    if living:
        slots = sum(worker.slots for worker in living)
        findings.append(fine(_CHECK, f"{count(len(living), 'worker')} alive, with {count(slots, 'slot')}"))
    else:
        message = "no worker is alive: no job runs, and nothing that is due becomes pending"
        findings.append(warning(_CHECK, message, f"start one: deeper worker {MANAGER}"))
    if silent:
        longest = snapshot.now - min(worker.beat_at for worker in silent)
        findings.append(
            warning(
                "silent workers",
                f"{count(len(silent), 'worker')} silent or dead, for up to {readable(longest)}: "
                f"{names(worker.id for worker in silent)}",
                "another worker takes their jobs within a lease; if they still run, see to their machines and logs",
            )
        )
    return findings
