"""
The fleet: which workers live, which queues they serve, and how many of their slots run a job.

All functions that report workers, slots and running jobs use it, so that they never disagree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from deeper_tasks.backends.protocol import HeldJobs, Node, NodeRecord, QueueCounts
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.queue_patterns import ServedQueues
from deeper_tasks.domain.state import State
from deeper_tasks.worker.liveness.host import is_alive


class Fleet:
    """
    The workers that a store knows, at its time.

    `is_alive` decides which of them live.
    """

    def __init__(
        self, records: Iterable[NodeRecord], held: Iterable[HeldJobs], *, now: datetime, lease: timedelta
    ) -> None:
        self.living = [record for record in records if is_alive(record, now=now, lease=lease)]
        self._served = {record.node.id: ServedQueues(record.node.queues) for record in self.living}
        self._busy: dict[NodeId, Counter[str]] = {}
        """By node and by entry of its queues: how many of its slots run a job."""
        self._running: Counter[str] = Counter()
        nodes = {record.node.id: record.node for record in records}
        by_node: defaultdict[NodeId, list[HeldJobs]] = defaultdict(list)
        for each in held:
            by_node[each.node].append(each)
        for node_id, jobs in by_node.items():
            self._count(node_id, nodes.get(node_id), jobs)

    @property
    def slots(self) -> int:
        """How many jobs the living workers can run at once."""
        return sum(sum(record.node.queues.values()) for record in self.living)

    @property
    def busy(self) -> int:
        """How many slots of the living workers run a job."""
        return sum(self.busy_of(record.node.id) for record in self.living)

    def busy_of(self, node: NodeId) -> int:
        """How many slots of a worker run a job."""
        return self._busy.get(node, Counter()).total()

    def running(self, queue: str) -> int:
        """How many jobs of a queue run: those that wait in a worker, claimed ahead, do not."""
        return self._running[queue]

    def serving(self, queue: str) -> list[NodeRecord]:
        """Return the living workers that serve a queue, by its name or by a pattern."""
        return [record for record in self.living if queue in self._served[record.node.id]]

    def slots_for(self, queue: str) -> int:
        """How many jobs of a queue can run at once; a pattern's slots count for each queue that it serves."""
        return sum(record.node.queues[self._entry(record.node, queue)] for record in self.serving(queue))

    def idle_for(self, queue: str) -> int:
        """How many of these slots run no job."""
        entries = [(record.node, self._entry(record.node, queue)) for record in self.serving(queue)]
        return sum(max(0, node.queues[entry] - self._busy.get(node.id, Counter())[entry]) for node, entry in entries)

    def _entry(self, node: Node, queue: str) -> str:
        entry = self._served[node.id].entry_for(queue)
        assert entry is not None
        return entry

    def _count(self, node_id: NodeId, node: Node | None, held: list[HeldJobs]) -> None:
        """Take what a worker holds: its slots are filled first, and what is left over waits there."""
        slots = {} if node is None else node.queues
        served, free = ServedQueues(slots), Counter(slots)
        busy = self._busy[node_id] = Counter()
        for each in sorted(held, key=lambda jobs: jobs.queue):
            entry = served.entry_for(each.queue) or each.queue
            # A job that is so short that its start is not reported runs all the same.
            running = max(each.begun, min(each.claimed, free[entry]))
            free[entry] = max(0, free[entry] - running)
            busy[entry] += running
            self._running[each.queue] += running


def by_state(counts: QueueCounts, *, running: int) -> dict[State, int]:
    """Return the jobs of a queue by state, of which so many run: what else is claimed waits in a worker, pending."""
    found = {state: counts.by_state.get(state, 0) for state in State}
    # Not read at one moment with what the workers hold.
    running = min(running, found[State.RUNNING])
    found[State.PENDING] += found[State.RUNNING] - running
    found[State.RUNNING] = running
    return found
