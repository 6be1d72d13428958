"""Nodes: a worker process becomes known, counts its heartbeats, and leaves."""

from __future__ import annotations

from deeper_tasks.backends.postgres.codec import text_array, to_json
from deeper_tasks.backends.postgres.database import Database, Transaction
from deeper_tasks.backends.protocol import Beat, Node
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.errors import NodeLostError

REGISTER = """
INSERT INTO node (id, number, document, registered_at, beat_at, tasks)
VALUES (
    %(node)s, floor(random() * 2147483647), %(document)s, coalesce(%(now)s::timestamptz, now()),
    coalesce(%(now)s::timestamptz, now()), %(tasks)s::text[]
)
ON CONFLICT (id) DO UPDATE SET tasks = excluded.tasks WHERE node.tasks IS DISTINCT FROM excluded.tasks
"""
"""The table refuses a number that another node has. The statement is then sent again, and draws another number."""
LOCK_NODE = "SELECT pg_advisory_xact_lock(1684366704, number) FROM node WHERE id = %(node)s"
"""Locks out the claims of a node, which share the same lock."""
DEREGISTER = """
DELETE FROM node
WHERE id = %(node)s AND NOT EXISTS (
    SELECT FROM job WHERE job.state = 4 AND job.node = (SELECT number FROM node WHERE id = %(node)s)
)
"""
"""The subquery gives the number first: the plan of a join might begin with all running jobs."""
BEAT = (
    "SELECT kind, name, token, reason FROM {schema}.beat(%(node)s::text, %(busy)s::text::integer, %(now)s::timestamptz)"
)


async def register(transaction: Transaction, node: Node, *, tasks: frozenset[str] | None, now: str | None) -> None:
    """Register a worker and its tasks; see `Backend.register`."""
    known = None if tasks is None else text_array(sorted(tasks))
    await transaction.execute(REGISTER, {"node": node.id, "document": to_json(node), "tasks": known, "now": now})


async def deregister(transaction: Transaction, node: NodeId) -> None:
    """Remove a worker that holds no jobs; see `Backend.deregister`."""
    await transaction.rows(LOCK_NODE, {"node": node})
    await transaction.execute(DEREGISTER, {"node": node})


async def beat(database: Database, node: NodeId, *, busy: int, now: str | None) -> Beat:
    """Count a heartbeat; see `Backend.beat`."""
    cancels: dict[JobId, str] = {}
    held: dict[JobId, ClaimToken] = {}
    paused: set[str] = set()
    for kind, name, token, reason in await database.call(BEAT, {"node": node, "busy": str(busy), "now": now}):
        if kind == "lost":
            raise lost(node)
        if kind == "paused":
            paused.add(name)
            continue
        if token is not None:
            held[JobId(name)] = ClaimToken(token)
        if reason is not None:
            cancels[JobId(name)] = reason
    return Beat(cancels=cancels, held=held, paused=frozenset(paused))


def lost(node: NodeId) -> NodeLostError:
    """Return the error for a node that the store does not know, or has taken for dead."""
    return NodeLostError(f"the node {node!r} is not registered or was taken for dead")
