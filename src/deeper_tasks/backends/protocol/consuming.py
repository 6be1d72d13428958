"""Consuming: the role of handing jobs to workers, and of taking back how they ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from deeper_tasks.backends.protocol.capabilities import MAX_BATCH
from deeper_tasks.backends.protocol.values import Node
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.queue_patterns import QueuePattern
from deeper_tasks.domain.settlement import Settled, Settlement

MAX_NODE_TASKS = 2_000
"""The number of names of tasks that a node registers at most; a worker that knows more tasks registers none."""


class Claim(Struct, frozen=True, kw_only=True):
    """The jobs that a claim took, in running order; none if the queue is paused."""

    jobs: tuple[ClaimedJob, ...] = ()


class Beat(Struct, frozen=True, kw_only=True):
    """
    The store's answer to a beat.

    `held` may name jobs whose claim or settle is still under way: only a job
    that no open call accounts for may be released.
    """

    cancels: dict[JobId, str]
    """The node's running jobs that are to be cancelled, each with the reason."""
    held: dict[JobId, ClaimToken]
    """All jobs that the node holds by the store's records."""
    paused: frozenset[str]
    """The queues that are paused."""


class Consuming(Protocol):
    """A store whose jobs workers run."""

    async def register(self, node: Node, *, tasks: frozenset[str] | None = None, now: datetime | None = None) -> None:
        """
        Make a worker known, and the names of the tasks that it can run, at most `MAX_NODE_TASKS`.

        `tasks` None: it does not say which. The same node again changes nothing but its tasks.
        """

    async def deregister(self, node: NodeId) -> None:
        """Remove a node that stopped in order. A node that still holds jobs is left to be rescued."""

    async def claim(
        self,
        queue: str | QueuePattern,
        *,
        limit: int,
        slots: int,
        node: NodeId,
        token: ClaimToken,
        after: str = "",
        quarantined: int = MAX_BATCH,
        now: datetime | None = None,
    ) -> Claim:
        """
        Take up to `limit`, at most `max_batch`, pending jobs of a queue and mark them running under `token`.

        The jobs are taken in the order of priority, due time and id. A job that is not committed, has expired, or is
        being claimed by another call is left out. Of the jobs in quarantine no more than `quarantined` are taken; the
        others keep their places.

        Of the jobs taken, the first `slots` count as started, except those in quarantine. The rest wait in the worker
        until a report says that they have started. The
        progress of an earlier attempt is forgotten; what `ClaimedJob` says of
        earlier attempts is as their settlements, rescues and manual retries left it.
        The same token again gives the same jobs.

        With a pattern they are of all the queues that it matches and that are not paused. These are served in
        turn, in the order of their names by code point, from the first after `after` on and
        round to it: the first job of each, then the second of each, and so on. The number of queues
        without a pending job does not matter to the cost.

        Raises:
            NodeLostError: the node is not registered or was taken for dead.
        """

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """
        Write the ends of attempts, at most `max_batch`, and drop their claims.

        A release without delay keeps the job's due time, and so its position in the
        queue. Returns those accepted, each with the state it led to. A job that another
        worker has taken over since, that was rescued or deleted, is left alone and
        left out. A refusal never harms the other settlements. Jobs that are pending
        again, or due within a second, have their hints.

        A token settles once. Any settlement that it sends again, in another call or
        the same, also after `JobTransaction.complete`, changes nothing and is answered
        with the state that the first led to, whatever has become of the job since,
        until the job is claimed again or deleted; from then on it is left out. So to be
        left out means a refusal only where the settlement was not sent before.

        Raises:
            BackendUnavailableError: nothing is known to be written; or, where it carries ids, all is but
                for these, which another transaction in the store holds.
        """

    async def beat(self, node: NodeId, *, busy: int = 0, now: datetime | None = None) -> Beat:
        """
        Count a sign of life of a node, with how many of its slots are busy. One row is written.

        Raises:
            NodeLostError: the node was rescued or never registered: it stops all it runs and registers anew.
        """
