"""The health of worker processes, for monitoring from outside: over HTTP and in a file."""

from deeper_tasks.health.file import HealthFile
from deeper_tasks.health.health import Health, ProcessHealth, ProcessStatus, Status
from deeper_tasks.health.server import HealthServer

__all__ = ["Health", "HealthFile", "HealthServer", "ProcessHealth", "ProcessStatus", "Status"]
