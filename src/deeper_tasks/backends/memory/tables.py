"""The tables: all that the memory store holds."""

from __future__ import annotations

from deeper_tasks.backends.memory.job_table import JobTable
from deeper_tasks.backends.memory.nodes import Nodes
from deeper_tasks.backends.memory.queues import Queues
from deeper_tasks.backends.memory.schedules import Schedules


class Tables:
    """The jobs, the schedules, the nodes and the settings of the queues. The caller holds the store's lock."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.queues = Queues()
        self.jobs = JobTable(self.nodes)
        self.schedules = Schedules(self.jobs)
