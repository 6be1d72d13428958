"""The nodes: the registered workers, their beats, and the jobs that each holds."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import chain, islice

from deeper_tasks.backends.memory.record import Record
from deeper_tasks.backends.protocol import HeldJobs, Node, NodeRecord
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.errors import NodeLostError


class Member:
    """A registered node. `claims` holds its running jobs by the token that took them, in running order."""

    __slots__ = ("beat", "beat_at", "busy", "claims", "is_lost", "node", "registered_at", "tasks")

    def __init__(self, node: Node, *, now: datetime) -> None:
        self.node = node
        self.beat = 0
        self.busy = 0
        self.registered_at = now
        self.beat_at = now
        self.is_lost = False
        self.tasks: frozenset[str] | None = None
        self.claims: dict[ClaimToken, dict[JobId, Record]] = {}

    def held(self, limit: int | None = None) -> list[Record]:
        """Return the jobs it runs, or the first of them."""
        return list(islice(chain.from_iterable(taken.values() for taken in self.claims.values()), limit))

    def held_by_queue(self) -> list[HeldJobs]:
        """Return how many jobs of each queue it has claimed, and has begun."""
        held = self.held()
        claimed = Counter(record.spec.queue for record in held)
        begun = Counter(record.spec.queue for record in held if record.attempted_at is not None)
        return [
            HeldJobs(node=self.node.id, queue=queue, claimed=count, begun=begun[queue])
            for queue, count in claimed.items()
        ]

    def as_record(self) -> NodeRecord:
        """Return it as the protocol shows it."""
        return NodeRecord(
            node=self.node,
            beat=self.beat,
            busy=self.busy,
            registered_at=self.registered_at,
            beat_at=self.beat_at,
            is_lost=self.is_lost,
        )


class Nodes:
    """All registered nodes, in the order they came."""

    def __init__(self) -> None:
        self._members: dict[NodeId, Member] = {}

    def records(self) -> tuple[NodeRecord, ...]:
        """Return all nodes as the protocol shows them."""
        return tuple(member.as_record() for member in self._members.values())

    def held_by_queue(self) -> tuple[HeldJobs, ...]:
        """Return how many jobs of each queue each node has claimed, and has begun."""
        return tuple(held for member in self._members.values() for held in member.held_by_queue())

    def that_know(self, task: str) -> dict[NodeId, bool]:
        """Return, for each node whose tasks are known, whether the task is one of them."""
        return {member.node.id: task in member.tasks for member in self._members.values() if member.tasks is not None}

    def add(self, node: Node, *, tasks: frozenset[str] | None, now: datetime) -> None:
        """Register a node; a node that is here already keeps all but its tasks."""
        if node.id not in self._members:
            self._members[node.id] = Member(node, now=now)
        self._members[node.id].tasks = tasks

    def remove_idle(self, node_id: NodeId) -> None:
        """Remove a node if it holds no job."""
        member = self._members.get(node_id)
        if member is not None and not member.claims:
            del self._members[node_id]

    def forget_silent(self, *, before: datetime) -> None:
        """Remove the nodes that hold no job and have not beaten since."""
        for member in list(self._members.values()):
            if member.beat_at < before:
                self.remove_idle(member.node.id)

    def get(self, node_id: NodeId | None) -> Member | None:
        """Return a node, also one that is lost; None if it is not registered."""
        return None if node_id is None else self._members.get(node_id)

    def alive(self, node_id: NodeId) -> Member:
        """
        Return a node that may still work.

        Raises:
            NodeLostError: it is not registered or was taken for dead.
        """
        member = self._members.get(node_id)
        if member is None or member.is_lost:
            raise NodeLostError(f"the node {node_id!r} is not registered or was taken for dead; it must register again")
        return member

    def hold(self, record: Record) -> None:
        """Note that a node runs a job, under the record's token."""
        assert record.node is not None
        assert record.token is not None
        self._members[record.node].claims.setdefault(record.token, {})[record.id] = record

    def drop(self, record: Record) -> None:
        """Note that a job's node no longer runs it; the record forgets the node."""
        member, record.node = self.get(record.node), None
        if member is None or record.token is None:
            return
        taken = member.claims.get(record.token)
        if taken is not None and taken.pop(record.id, None) is not None and not taken:
            del member.claims[record.token]
