"""Conformance: running a handler inside the transaction that completes its job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import Struct

from deeper_tasks.backends.protocol import Backend, JobQuery, JobTransaction, Transacting
from deeper_tasks.domain.job import ClaimedJob, Insertion, Progress
from deeper_tasks.domain.settlement import End, Report, Settled
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import DeeperTasksError, DuplicateJobError, TransactionError
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    MINUTE,
    NOW,
    SECOND,
    join,
    look,
    new_job,
    only,
    put,
    put_running,
    rescue_all,
    settle,
    settlement,
    state_of,
    take,
)

PATIENCE = 30.0
KEY = Unique(key="given:one")


BeginJob = Callable[..., Awaitable[JobTransaction]]


class Ledger(Struct, frozen=True, kw_only=True):
    """
    A table of an application beside the jobs, and what a handler does to it.

    `write` adds an entry through the connection of a job's transaction, and
    `commit` calls whatever that connection has to commit by; `read` returns the
    entries that are committed.
    """

    write: Callable[[Any, str], Awaitable[None]]
    commit: Callable[[Any], Awaitable[None]]
    read: Callable[[], Awaitable[list[str]]]


class TransactingConformance:
    """The contract of any store: it proves the transactions of jobs, or does not claim them."""

    async def test_a_store_proves_its_transactions_of_jobs_or_has_none(self, backend: Backend) -> None:
        assert backend.capabilities.has_job_transactions == isinstance(backend, Transacting)
        assert not backend.capabilities.has_job_transactions or isinstance(self, JobTransactionConformance)


class JobTransactionConformance:
    """
    The contract of a store with transactions of jobs.

    The fixture `ledger` gives a `Ledger` whose table is empty. Each test runs
    with a connection for an `async def`, and with one for a `def` in a thread.
    """

    @pytest.fixture(params=["async", "thread"])
    def begin_job(self, request: pytest.FixtureRequest, backend: Backend) -> BeginJob:
        """Return a way to begin a transaction for a handler of either kind."""
        assert isinstance(backend, Transacting)
        return partial(backend.begin, is_async=request.param == "async", now=NOW)

    async def test_what_was_written_and_the_completion_are_there_together(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        await ledger.write(transaction.connection, "paid")
        assert await ledger.read() == []
        assert await state_of(backend, job.id) is State.RUNNING
        settled = await transaction.complete(settlement(job, result='{"paid":1}', ran_for=SECOND))
        assert settled == Settled(id=job.id, state=State.COMPLETED)
        assert await ledger.read() == ["paid"]
        there = await look(backend, job.id)
        assert (there.state, there.result, there.finished_at) == (State.COMPLETED, '{"paid":1}', NOW)
        assert there.attempted_at == NOW - SECOND

    async def test_what_is_rolled_back_never_was_and_the_job_goes_on(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        await ledger.write(transaction.connection, "paid")
        await transaction.rollback()
        await transaction.rollback()
        assert transaction.is_over
        assert transaction.broken is None
        assert await ledger.read() == []
        assert await settle(backend, [job], End.RETRY, delay=MINUTE, error=BOOM) == [
            Settled(id=job.id, state=State.RETRYABLE)
        ]

    async def test_a_transaction_in_which_nothing_was_written_completes_as_well(
        self, backend: Backend, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        settled = await transaction.complete(settlement(job, result_omitted="too large"))
        assert settled == Settled(id=job.id, state=State.COMPLETED)
        assert (await look(backend, job.id)).result_omitted == "too large"

    async def test_one_follows_another(self, backend: Backend, ledger: Ledger, begin_job: BeginJob) -> None:
        node = await join(backend)
        for number in range(5):
            job = await put_running(backend, node)
            transaction = await begin_job()
            await ledger.write(transaction.connection, str(number))
            assert await transaction.complete(settlement(job))
        assert await ledger.read() == ["0", "1", "2", "3", "4"]

    async def test_the_last_news_are_kept_with_the_completion(self, backend: Backend, begin_job: BeginJob) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        progress = Progress(fraction=1.0, message="done")
        report = Report(id=job.id, token=job.token, progress=progress, lines=("one", "two"))
        assert await transaction.complete(settlement(job), report=report)
        there = await look(backend, job.id)
        assert (there.state, there.progress, list(there.log)) == (State.COMPLETED, progress, ["one", "two"])

    async def test_a_requested_cancel_does_not_undo_a_completion(self, backend: Backend, begin_job: BeginJob) -> None:
        job = await put_running(backend, await join(backend))
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        transaction = await begin_job()
        assert await transaction.complete(settlement(job)) == Settled(id=job.id, state=State.COMPLETED)

    # jobs that are enqueued in it

    async def test_a_job_enqueued_inside_is_there_with_the_completion_and_not_before(
        self, backend: Backend, begin_job: BeginJob
    ) -> None:
        node = await join(backend)
        job, following = await put_running(backend, node), new_job()
        transaction = await begin_job()
        answers = await backend.insert([following], connection=transaction.connection, now=NOW)
        assert answers == [Insertion(id=following.request_id, is_new=True)]
        assert await backend.get(following.request_id) is None
        assert await transaction.complete(settlement(job))
        assert [each.id for each in await take(backend, node)] == [following.request_id]

    async def test_a_job_enqueued_inside_is_rolled_back_with_all_it_held(
        self, backend: Backend, begin_job: BeginJob
    ) -> None:
        await put_running(backend, await join(backend))
        following, other = new_job(unique=KEY), new_job(unique=KEY)
        transaction = await begin_job()
        await backend.insert([following], connection=transaction.connection, now=NOW)
        await transaction.rollback()
        assert await backend.get(following.request_id) is None
        assert await backend.insert([other], now=NOW) == [Insertion(id=other.request_id, is_new=True)]

    async def test_a_refused_insert_leaves_the_transaction_as_it_was(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        known = new_job(queue="other")
        await backend.insert([known], now=NOW)
        other = new_job(request_id=known.request_id, arguments="[[43],{}]")
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        await ledger.write(transaction.connection, "paid")
        with pytest.raises(DuplicateJobError):
            await backend.insert([other], connection=transaction.connection, now=NOW)
        assert await transaction.complete(settlement(job))
        assert await ledger.read() == ["paid"]

    async def test_the_key_that_the_job_held_is_free_when_it_is_completed(
        self, backend: Backend, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend), unique=KEY)
        following = new_job(unique=KEY)
        transaction = await begin_job()
        held = await backend.insert([new_job(unique=KEY)], connection=transaction.connection, now=NOW)
        assert held == [Insertion(id=job.id, is_new=False)]
        assert await transaction.complete(settlement(job))
        assert await backend.insert([following], now=NOW) == [Insertion(id=following.request_id, is_new=True)]

    # refused

    @pytest.mark.parametrize("what", ["rescued", "released", "completed", "deleted", "taken by another"])
    async def test_a_completion_whose_token_does_not_hold_rolls_all_back(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob, what: str
    ) -> None:
        node = await join(backend)
        job, following = await put_running(backend, node), new_job(queue="other")
        await self._take_away(backend, job, what)
        before = await backend.get(job.id)
        transaction = await begin_job()
        await ledger.write(transaction.connection, "paid")
        await backend.insert([following], connection=transaction.connection, now=NOW)
        report = Report(id=job.id, token=job.token, lines=("too late",))
        assert await transaction.complete(settlement(job, result="42"), report=report) is None
        assert await ledger.read() == []
        assert await backend.get(following.request_id) is None
        assert await backend.get(job.id) == before

    async def test_of_two_attempts_of_a_job_that_was_rescued_one_has_its_effect(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        stale, living = await join(backend), await join(backend)
        job = await put_running(backend, stale)
        await rescue_all(backend, stale)
        [again] = await take(backend, living)
        for claimed, entry in ((job, "by the first"), (again, "by the second")):
            transaction = await begin_job()
            await ledger.write(transaction.connection, entry)
            await transaction.complete(settlement(claimed))
        assert await ledger.read() == ["by the second"]
        assert (await look(backend, job.id)).attempt == 2

    # its end

    async def test_after_its_end_nothing_can_be_done_in_it(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        connection = transaction.connection
        assert not transaction.is_over
        assert await transaction.complete(settlement(job))
        assert transaction.is_over
        with pytest.raises(Exception, match=r".") as raised:
            await ledger.write(connection, "too late")
        assert not isinstance(raised.value, AssertionError)
        with pytest.raises(DeeperTasksError):
            await backend.insert([new_job()], connection=connection, now=NOW)
        with pytest.raises(TransactionError):
            await transaction.complete(settlement(job))
        await transaction.rollback()
        assert await ledger.read() == []
        assert (await backend.find(JobQuery())).total == 1

    async def test_another_settlement_tells_what_became_of_a_completion_whose_answer_was_lost(
        self, backend: Backend, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        await transaction.complete(settlement(job, result="42"))
        assert await settle(backend, [job], End.RETRY, delay=MINUTE, error=BOOM) == [
            Settled(id=job.id, state=State.COMPLETED)
        ]
        there = await look(backend, job.id)
        assert (there.state, there.result, list(there.errors)) == (State.COMPLETED, "42", [])

    async def test_the_handler_cannot_commit(self, backend: Backend, ledger: Ledger, begin_job: BeginJob) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        await ledger.write(transaction.connection, "paid")
        with pytest.raises(TransactionError):
            await ledger.commit(transaction.connection)
        assert await ledger.read() == []
        assert await transaction.complete(settlement(job))
        assert await ledger.read() == ["paid"]

    async def test_one_that_others_wait_for_is_rolled_back_when_its_time_is_up(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        if backend.capabilities.longest_job_transaction is None:
            pytest.skip("no other writer waits for it")
        job = await put_running(backend, await join(backend))
        transaction = await begin_job(limit=timedelta(milliseconds=100))
        await ledger.write(transaction.connection, "paid")
        async with asyncio.timeout(PATIENCE):
            # It waits for the end of the transaction, as all that writes does.
            other = await put(backend, queue="other")
        assert isinstance(transaction.broken, TimeoutError)
        assert transaction.is_over
        with pytest.raises(TransactionError):
            await transaction.complete(settlement(job))
        await transaction.rollback()
        assert await ledger.read() == []
        assert await state_of(backend, job.id) is State.RUNNING
        assert await state_of(backend, other) is State.PENDING

    async def test_an_interruption_harms_nothing_while_no_statement_runs(
        self, backend: Backend, ledger: Ledger, begin_job: BeginJob
    ) -> None:
        job = await put_running(backend, await join(backend))
        transaction = await begin_job()
        transaction.interrupt()
        # A store may hear of it in the loop: before the next statement, or that would be the one that runs.
        await asyncio.sleep(0)
        await ledger.write(transaction.connection, "paid")
        assert await transaction.complete(settlement(job))
        transaction.interrupt()
        assert await ledger.read() == ["paid"]

    async def _take_away(self, backend: Backend, job: ClaimedJob, what: str) -> None:
        nodes = [record.node.id for record in await backend.nodes()]
        if what in {"rescued", "taken by another"}:
            await rescue_all(backend, nodes[0])
        if what == "taken by another":
            await take(backend, await join(backend))
        if what in {"released", "completed", "deleted"}:
            await settle(backend, [job], End.RELEASE if what == "released" else End.COMPLETE)
        if what == "deleted":
            await backend.delete(only(job.id))
