"""The consumers of one worker, by the entry of its queues that each serves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from deeper_tasks.domain.ids import ClaimToken, JobId
from deeper_tasks.domain.queue_patterns import QueuePattern, ServedQueues, is_pattern
from deeper_tasks.domain.stop import Stop
from deeper_tasks.worker.attempts.running_attempts import RunningAttempts
from deeper_tasks.worker.claiming.consumer import Consumer


class Consumers:
    """Passes on what concerns one consumer, or all of them."""

    def __init__(self, entries: Iterable[str], *, running: RunningAttempts) -> None:
        self.running = running
        self.served = ServedQueues(entries)
        self._consumers: dict[str, Consumer] = {}

    def __getitem__(self, entry: str) -> Consumer:
        return self._consumers[entry]

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._consumers.values())

    def add(self, entry: str, consumer: Consumer) -> None:
        """Add the consumer that serves this entry."""
        self._consumers[entry] = consumer

    def queue_of(self, entry: str) -> str | QueuePattern:
        """Return the queue, or the pattern of queues, that an entry stands for."""
        return self.served.pattern_of(entry) if is_pattern(entry) else entry

    @property
    def is_busy(self) -> bool:
        """Whether any job runs or is claimed."""
        return any(consumer.is_busy for consumer in self)

    @property
    def is_claiming(self) -> bool:
        """Whether any claim is under way."""
        return any(consumer.is_claiming for consumer in self)

    @property
    def holds(self) -> set[JobId]:
        """The jobs that run here, or wait here for a slot."""
        return {job_id for consumer in self for job_id in consumer.holds}

    @property
    def unanswered(self) -> set[ClaimToken]:
        """The tokens of the claims that the store has not answered yet."""
        return {token for consumer in self if (token := consumer.claiming) is not None}

    def hint(self, queue: str = "") -> None:
        """Have the consumer of a queue claim soon, or all consumers if no queue is named."""
        if not queue:
            for consumer in self:
                consumer.hint()
            return
        entry = self.served.entry_for(queue)
        if entry is not None:
            self._consumers[entry].hint()

    def drain(self) -> None:
        """Claim no more jobs, and ask the handlers that run to stop."""
        for consumer in self:
            consumer.drain()

    def stop_running(self, stop: Stop, reason: str = "") -> None:
        """Interrupt all running attempts."""
        for consumer in self:
            consumer.stop_running(stop, reason)

    def give_back_held(self) -> None:
        """Release the claimed jobs that have not started."""
        for consumer in self:
            consumer.give_back_held()

    def give_back_held_of(self, queues: Collection[str]) -> None:
        """Release the claimed jobs of these queues that have not started."""
        for consumer in self:
            consumer.give_back_held_of(queues)

    def lose_all(self) -> None:
        """Drop all claimed jobs and interrupt all running attempts: other workers have the jobs, or will have them."""
        for consumer in self:
            consumer.drop_held()
            consumer.stop_running(Stop.LOST)

    def cancel(self, job_id: JobId, reason: str) -> None:
        """Interrupt the attempt of a job, or release the job if it has not started, so that the store cancels it."""
        attempt = self.running.get(job_id)
        if attempt is not None and Stop.CANCEL not in attempt.announced:
            attempt.tell_to_stop(Stop.CANCEL, reason)
        for consumer in self:
            consumer.give_back_held_one(job_id)
