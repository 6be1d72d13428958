"""The diagnosis: what is wrong with a store and with what goes on in it, and how to mend it."""

from deeper_tasks.domain.finding import Finding, Severity
from deeper_tasks.manager.diagnosis.examination import OnCheck, examine, say_nothing

__all__ = ["Finding", "OnCheck", "Severity", "examine", "say_nothing"]
