"""The beat handler: does in this worker what the store's answers to its beats ask for."""

from __future__ import annotations

import asyncio

from deeper_tasks.backends.protocol import Beat
from deeper_tasks.domain.ids import ClaimToken, JobId, NodeId
from deeper_tasks.domain.settlement import End, Settlement
from deeper_tasks.worker.claiming.consumers import Consumers
from deeper_tasks.worker.execution.reporter import Reporter
from deeper_tasks.worker.liveness.joining import Joining
from deeper_tasks.worker.liveness.membership import Membership
from deeper_tasks.worker.settling.settler import Settler


class BeatHandler:
    """Cancels jobs, releases those of paused queues, and corrects what the store believes to run here."""

    def __init__(
        self,
        consumers: Consumers,
        *,
        settler: Settler,
        reporter: Reporter,
        membership: Membership,
        joining: Joining,
    ) -> None:
        self._consumers = consumers
        self._settler = settler
        self._reporter = reporter
        self._membership = membership
        self._joining = joining
        self._registering: asyncio.Task[None] | None = None
        self._seen_running: set[JobId] = set()

    def busy(self) -> int:
        """Return how many jobs run here. Safe to call from any thread."""
        return len(self._consumers.running)

    def note_lost(self, node: NodeId) -> None:
        """Join anew, if this is the node that the worker is now."""
        self._joining.note_lost(node)

    def take(self, node: NodeId, beat: Beat) -> None:
        """Take the store's answer to the beat of this node; one to an earlier node is dropped."""
        if node != self._membership.node_id:
            return
        if beat.paused:
            self._consumers.give_back_held_of(beat.paused)
        for job_id, reason in beat.cancels.items():
            self._consumers.cancel(job_id, reason)
        self.give_back_strays(beat.held)
        self._report_long_jobs()
        if self._membership.has_new_tasks and (self._registering is None or self._registering.done()):
            self._registering = asyncio.create_task(self._membership.register_tasks())

    def give_back_strays(self, held: dict[JobId, ClaimToken]) -> None:
        """Release the jobs that the store holds for this node and that are not here: a claim's answer was lost."""
        known, unanswered = self._consumers.holds, self._consumers.unanswered
        # A settlement that was set aside could be overtaken by the release, and its job would run again.
        unwritten = self._settler.ends
        for job_id, token in held.items():
            if job_id not in known and token not in unanswered and (job_id, token) not in unwritten:
                self._settler.forget(Settlement(id=job_id, token=token, end=End.RELEASE, reason="not started"))

    def _report_long_jobs(self) -> None:
        """Report that the jobs have started which were claimed ahead as short ones, and run at a second beat."""
        running = {attempt.job.id: attempt.job for attempt in self._consumers.running.all() if attempt.runs_unreported}
        for job_id in running.keys() - self._seen_running:
            self._reporter.report_start(running[job_id])
        self._seen_running = set(running)
