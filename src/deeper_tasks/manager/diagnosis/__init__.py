"""The diagnosis: what is wrong with a store and with what goes on in it, and how to mend it."""

from deeper_tasks.domain.finding import Finding, Severity
from deeper_tasks.manager.diagnosis.examination import examine
from deeper_tasks.manager.diagnosis.wording import MANAGER

__all__ = ["MANAGER", "Finding", "Severity", "examine"]
