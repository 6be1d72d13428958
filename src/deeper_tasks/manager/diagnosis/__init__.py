"""The diagnosis: the faults of a store, its jobs, queues and workers, and how to mend them."""

from deeper_tasks.domain.finding import Finding, Severity
from deeper_tasks.manager.diagnosis.examination import examine
from deeper_tasks.manager.diagnosis.wording import MANAGER

__all__ = ["MANAGER", "Finding", "Severity", "examine"]
