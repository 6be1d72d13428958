"""The supervisor: a process that keeps worker processes alive. It never imports the application."""

from deeper_tasks.supervisor.lifeline import Lifeline
from deeper_tasks.supervisor.messages import Loaded, Refused, Report
from deeper_tasks.supervisor.settings import SupervisorSettings
from deeper_tasks.supervisor.supervisor import Supervisor

__all__ = ["Lifeline", "Loaded", "Refused", "Report", "Supervisor", "SupervisorSettings"]
