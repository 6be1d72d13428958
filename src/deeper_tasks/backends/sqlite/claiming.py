"""Claim: take the pending jobs of a queue, or of those that a pattern matches, for a worker."""

from __future__ import annotations

import sqlite3
from collections import Counter

import msgspec

from deeper_tasks.backends.protocol import MAX_BATCH, Claim
from deeper_tasks.backends.sqlite import claimable_jobs, transitions
from deeper_tasks.backends.sqlite.claimable_jobs import NONE, ClaimableJobs
from deeper_tasks.backends.sqlite.codec import to_json
from deeper_tasks.domain.ids import ClaimToken, NodeId
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.transitions import starts_at_claim
from deeper_tasks.errors import NodeLostError

SELECT_CLAIMANT = """
SELECT
    (SELECT is_lost FROM deeper_node WHERE id = :node),
    (SELECT paused_at FROM deeper_queue WHERE name = :queue),
    EXISTS (SELECT 1 FROM deeper_job WHERE state = 4 AND node = :node AND token = :token)
"""

_rowids = msgspec.json.Decoder(list[int])


def claim(
    connection: sqlite3.Connection,
    queue: str | QueuePattern,
    *,
    limit: int,
    slots: int,
    node: NodeId,
    token: ClaimToken,
    after: str = "",
    quarantined: int = MAX_BATCH,
    now: int,
) -> Claim:
    """Take pending jobs; see `Backend.claim`."""
    pattern = queue if isinstance(queue, QueuePattern) else None
    name = None if isinstance(queue, QueuePattern) else queue
    values = {"node": node, "token": token, "queue": name, "limit": min(limit, MAX_BATCH), "now": now}
    is_lost, paused_at, is_repeated = connection.execute(SELECT_CLAIMANT, values).fetchone()
    if is_lost is None or is_lost:
        raise NodeLostError(f"the node {node!r} is not registered or was taken for dead")
    if is_repeated:
        return Claim(jobs=claimable_jobs.claimed_before(connection, values, token=token, now=now))
    if paused_at is not None:
        return Claim()

    def find(admitted: str | None) -> ClaimableJobs:
        wanted = {**values, "admitted": admitted}
        if pattern is None:
            return claimable_jobs.of_queue(connection, wanted, token=token, now=now)
        return claimable_jobs.of_pattern(connection, pattern, wanted, after=after, token=token, now=now)

    jobs, rowids, in_quarantine = find(None if quarantined > 0 else NONE)
    if in_quarantine != NONE and len(found := _rowids.decode(in_quarantine)) > quarantined:
        jobs, rowids, _ = find(to_json(found[:quarantined]))
    if not jobs:
        return Claim()
    queues = {name: len(jobs)} if name is not None else Counter(job.queue for job in jobs)
    transitions.claim(connection, rowids, queues=queues, slots=slots, node=node, token=token, now=now)
    for place, job in enumerate(jobs[:slots]):
        # No other code has seen these jobs yet, and a copy of each would cost ten times as much.
        has_started = starts_at_claim(place, slots=slots, is_quarantined=job.is_quarantined)
        msgspec.structs.force_setattr(job, "has_started", has_started)
    return Claim(jobs=jobs)
