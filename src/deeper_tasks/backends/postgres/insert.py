"""Insert jobs, each id once and each unique key held by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from deeper_tasks.backends.hints import after_insert_elsewhere
from deeper_tasks.backends.postgres.codec import (
    Row,
    array,
    duration,
    id_array,
    moment_text,
    optional_array,
    optional_text_array,
    options_document,
    text_array,
)
from deeper_tasks.backends.postgres.database import Database, Transaction
from deeper_tasks.backends.postgres.hints import Hints
from deeper_tasks.backends.postgres.listener import payload
from deeper_tasks.backends.postgres.refusals import OverLimitError
from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.job import Insertion, NewJob
from deeper_tasks.errors import DuplicateJobError

PARAMETERS = {
    "store": "uuid",
    "channel": "text",
    "now": "timestamptz",
    "ids": "uuid[]",
    "tasks": "text[]",
    "arguments": "text[]",
    "queues": "text[]",
    "priorities": "smallint[]",
    "max_attempts": "integer[]",
    "dues": "timestamptz[]",
    "delays": "bigint[]",
    "expiries": "bigint[]",
    "options": "text[]",
    "keys": "text[]",
    "periods": "bigint[]",
}
"""The parameters of the function `insert_jobs` in their order, each sent as text, and what it is cast to."""

_VALUES = ", ".join(f"%({name})s::{kind}" for name, kind in PARAMETERS.items())

INSERT = f"SELECT place, id FROM {{schema}}.insert_jobs({_VALUES})"
INSERT_AND_NOTIFY = f"CALL {{schema}}.insert_and_notify(%(hints)s::text[], {_VALUES}, NULL, NULL)"


async def insert(
    database: Database, jobs: Sequence[NewJob], *, store: str, now: str | None, hints: Hints
) -> list[Insertion]:
    """Insert jobs and send their hints; see `Backend.insert`."""
    batch = Batch(jobs)
    if not batch.jobs:
        return []
    # The server decides whether a job is due, by its own clock.
    wanted = after_insert_elsewhere(batch.jobs, now=datetime.now(UTC))
    if hints.may_leave(wanted):
        values = batch.values(store=store, channel=database.address.channel, now=now)
        values["hints"] = text_array(map(payload, wanted))
        # If the server's queue of notifications becomes full just before the commit of the hints, the jobs are there.
        # They are sent again without hints; if another limit was the cause, that call raises the error.
        with suppress(OverLimitError):
            [(places, others)] = await database.call(INSERT_AND_NOTIFY, values, is_urgent=True)
            return batch.answers(zip(places or (), others or (), strict=True))
    values = batch.values(store=store, channel=None, now=now)
    answers = batch.answers(await database.call(INSERT, values, is_urgent=True))
    if any(answer.is_new for answer in answers):
        await hints.notify(wanted)
    return answers


async def insert_inside(
    transaction: Transaction, jobs: Sequence[NewJob], *, store: str, now: str | None
) -> list[Insertion]:
    """Insert jobs within an open transaction of the store."""
    batch = Batch(jobs)
    if not batch.jobs:
        return []
    values = batch.values(store=store, channel=None, now=now)
    return batch.answers(await transaction.rows(INSERT.replace("{schema}.", ""), values))


class Batch:
    """
    New jobs, each id once, as the columns of `insert_jobs`.

    Raises:
        DuplicateJobError: an id comes twice, with different content.
    """

    def __init__(self, jobs: Sequence[NewJob]) -> None:
        self._sent = jobs
        first: dict[JobId, NewJob] = {}
        for job in jobs:
            other = first.setdefault(job.request_id, job)
            if (other.spec.task, other.spec.arguments) != (job.spec.task, job.spec.arguments):
                raise DuplicateJobError(
                    f"the id {job.request_id!r} occurs twice in one call, with another task or other arguments",
                    request_id=job.request_id,
                )
        self.jobs = list(first.values())

    def values(self, *, store: str, channel: str | None, now: str | None) -> dict[str, Any]:
        """Return the parameters of `insert_jobs`. With a channel, the hints are sent with the commit."""
        jobs = self.jobs
        specs = [job.spec for job in jobs]
        return {
            "store": store,
            "channel": channel,
            "now": now,
            "ids": id_array([job.request_id for job in jobs]),
            "tasks": text_array(spec.task for spec in specs),
            "arguments": text_array(spec.arguments for spec in specs),
            "queues": text_array(spec.queue for spec in specs),
            "priorities": array(spec.priority for spec in specs),
            "max_attempts": array(spec.max_attempts for spec in specs),
            "dues": optional_text_array([moment_text(job.due) for job in jobs]),
            "delays": array(duration(job.delay) for job in jobs),
            "expiries": optional_array(
                [None if spec.expires_in is None else duration(spec.expires_in) for spec in specs]
            ),
            "options": optional_text_array([options_document(spec.options) for spec in specs]),
            "keys": optional_text_array([None if job.unique is None else job.unique.key for job in jobs]),
            "periods": optional_array(
                [None if job.unique is None else _microseconds(job.unique.period) for job in jobs]
            ),
        }

    def answers(self, refused: Iterable[Row]) -> list[Insertion]:
        """Return the answer for each job that was given, from the rows of `insert_jobs`."""
        others = {self.jobs[place - 1].request_id: JobId(job_id) for place, job_id in refused}
        answers: list[Insertion] = []
        is_sent: set[JobId] = set()
        for job in self._sent:
            held_by = others.get(job.request_id)
            answers.append(
                Insertion(id=held_by or job.request_id, is_new=held_by is None and job.request_id not in is_sent)
            )
            is_sent.add(job.request_id)
        return answers


def _microseconds(period: timedelta | None) -> int | None:
    return None if period is None else duration(period)
