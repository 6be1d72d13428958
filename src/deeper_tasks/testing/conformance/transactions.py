"""Conformance: inserting jobs inside a transaction of the caller's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from msgspec import Struct

from deeper_tasks.backends.protocol import Backend, JobQuery
from deeper_tasks.domain.job import Insertion
from deeper_tasks.domain.state import State
from deeper_tasks.domain.unique import Unique
from deeper_tasks.errors import DuplicateJobError, InvalidOptionError, UnsupportedError
from deeper_tasks.testing.conformance.builders import HOUR, MINUTE, NOW, join, look, new_job, put, state_of, take

KEY = Unique(key="given:one")


class Transaction(Struct, frozen=True, kw_only=True):
    """A transaction of an application that is open: its connection, and the two ways to end it."""

    connection: Any
    commit: Callable[[], Awaitable[None]]
    rollback: Callable[[], Awaitable[None]]


Begin = Callable[[], AbstractAsyncContextManager[Transaction]]


class JoinConformance:
    """The contract of any store: it joins the transactions of a caller, or refuses the connection."""

    async def test_a_store_proves_its_transactions_or_refuses_a_connection(self, backend: Backend) -> None:
        if backend.capabilities.has_transactions:
            assert isinstance(self, TransactionConformance)
            return
        with pytest.raises(UnsupportedError):
            await backend.insert([new_job()], connection=object(), now=NOW)
        assert (await backend.find(JobQuery())).total == 0


class TransactionConformance:
    """
    The contract of `insert` with a connection, in a store with transactions.

    The fixture `begin` gives a function: called, it returns a context that
    opens a connection of an application's own to the store of `backend`,
    begins a transaction, gives a `Transaction`, and closes the connection.
    """

    async def test_a_job_is_there_when_its_transaction_commits_and_not_before(
        self, backend: Backend, begin: Begin
    ) -> None:
        job = new_job(queue="emails", priority=3, expires_in=HOUR)
        async with begin() as transaction:
            answers = await backend.insert([job], connection=transaction.connection, now=NOW)
            assert answers == [Insertion(id=job.request_id, is_new=True)]
            assert await backend.get(job.request_id) is None
            await transaction.commit()
        there = await look(backend, job.request_id)
        assert (there.state, there.queue, there.priority) == (State.PENDING, "emails", 3)
        assert (there.inserted_at, there.expires_at) == (NOW, NOW + HOUR)

    async def test_a_job_that_was_rolled_back_never_was(self, backend: Backend, begin: Begin) -> None:
        job = new_job()
        async with begin() as transaction:
            await backend.insert([job], connection=transaction.connection, now=NOW)
            await transaction.rollback()
        assert await backend.get(job.request_id) is None
        assert await take(backend, await join(backend)) == ()
        assert (await backend.statistics(now=NOW)).queues.get("default") is None

    async def test_a_transaction_that_was_never_ended_leaves_nothing(self, backend: Backend, begin: Begin) -> None:
        job = new_job()
        async with begin() as transaction:
            await backend.insert([job], connection=transaction.connection, now=NOW)
        assert await backend.get(job.request_id) is None
        assert await backend.insert([job], now=NOW) == [Insertion(id=job.request_id, is_new=True)]

    async def test_a_committed_job_is_claimed_as_any_other(self, backend: Backend, begin: Begin) -> None:
        first = await put(backend)
        async with begin() as transaction:
            [second] = await backend.insert([new_job()], connection=transaction.connection, now=NOW)
            await transaction.commit()
        assert [job.id for job in await take(backend, await join(backend), limit=5)] == [first, second.id]

    async def test_several_inserts_of_a_transaction_commit_together(self, backend: Backend, begin: Begin) -> None:
        now, later = new_job(), new_job(delay=MINUTE)
        async with begin() as transaction:
            await backend.insert([now], connection=transaction.connection, now=NOW)
            await backend.insert([later, new_job()], connection=transaction.connection, now=NOW)
            assert (await backend.find(JobQuery())).total == 0
            await transaction.commit()
        assert await state_of(backend, now.request_id) is State.PENDING
        assert await state_of(backend, later.request_id) is State.SCHEDULED
        assert (await backend.find(JobQuery())).total == 3

    async def test_no_jobs_in_a_transaction_give_no_answers(self, backend: Backend, begin: Begin) -> None:
        async with begin() as transaction:
            assert await backend.insert([], connection=transaction.connection, now=NOW) == []

    async def test_the_same_id_again_in_a_transaction_gives_the_job_that_is_there(
        self, backend: Backend, begin: Begin
    ) -> None:
        before, inside = new_job(), new_job()
        await backend.insert([before], now=NOW)
        async with begin() as transaction:
            answers = await backend.insert([before, inside], connection=transaction.connection, now=NOW)
            assert [answer.is_new for answer in answers] == [False, True]
            again = await backend.insert([inside], connection=transaction.connection, now=NOW)
            assert again == [Insertion(id=inside.request_id, is_new=False)]
            await transaction.commit()
        assert await backend.insert([inside], now=NOW) == [Insertion(id=inside.request_id, is_new=False)]
        assert (await backend.find(JobQuery())).total == 2

    async def test_a_unique_key_is_rolled_back_with_its_job(self, backend: Backend, begin: Begin) -> None:
        first, second = new_job(unique=KEY), new_job(unique=KEY)
        async with begin() as transaction:
            connection = transaction.connection
            assert await backend.insert([first], connection=connection, now=NOW) == [
                Insertion(id=first.request_id, is_new=True)
            ]
            held = await backend.insert([second], connection=connection, now=NOW)
            assert held == [Insertion(id=first.request_id, is_new=False)]
            await transaction.rollback()
        assert await backend.insert([second], now=NOW) == [Insertion(id=second.request_id, is_new=True)]

    async def test_a_unique_key_is_held_when_its_transaction_has_committed(
        self, backend: Backend, begin: Begin
    ) -> None:
        first, second = new_job(unique=KEY), new_job(unique=KEY)
        async with begin() as transaction:
            await backend.insert([first], connection=transaction.connection, now=NOW)
            await transaction.commit()
        assert await backend.insert([second], now=NOW) == [Insertion(id=first.request_id, is_new=False)]

    async def test_a_unique_key_that_is_held_elsewhere_names_its_holder_in_a_transaction(
        self, backend: Backend, begin: Begin
    ) -> None:
        holder = await put(backend, unique=KEY)
        async with begin() as transaction:
            answers = await backend.insert([new_job(unique=KEY), new_job()], connection=transaction.connection, now=NOW)
            assert answers[0] == Insertion(id=holder, is_new=False)
            await transaction.commit()
        assert (await backend.find(JobQuery())).total == 2

    async def test_a_refused_insert_leaves_the_transaction_usable_and_nothing_of_itself(
        self, backend: Backend, begin: Begin
    ) -> None:
        known = new_job()
        await backend.insert([known], now=NOW)
        kept, refused, also_kept = new_job(), new_job(unique=KEY), new_job(unique=KEY)
        async with begin() as transaction:
            connection = transaction.connection
            await backend.insert([kept], connection=connection, now=NOW)
            with pytest.raises(DuplicateJobError, match=known.request_id):
                await backend.insert(
                    [refused, new_job(request_id=known.request_id, arguments="[[43],{}]")],
                    connection=connection,
                    now=NOW,
                )
            answers = await backend.insert([also_kept], connection=connection, now=NOW)
            assert answers == [Insertion(id=also_kept.request_id, is_new=True)]
            await transaction.commit()
        assert await backend.get(refused.request_id) is None
        assert (
            await state_of(backend, kept.request_id) is await state_of(backend, also_kept.request_id) is State.PENDING
        )

    async def test_more_jobs_than_go_in_at_once_leave_the_transaction_usable(
        self, backend: Backend, begin: Begin
    ) -> None:
        jobs = [new_job() for _ in range(backend.capabilities.max_atomic_insert + 1)]
        async with begin() as transaction:
            with pytest.raises(UnsupportedError):
                await backend.insert(jobs, connection=transaction.connection, now=NOW)
            await backend.insert(jobs[:1], connection=transaction.connection, now=NOW)
            await transaction.commit()
        assert (await backend.find(JobQuery())).total == 1

    async def test_batches_in_a_transaction_are_all_or_none(self, backend: Backend, begin: Begin) -> None:
        jobs = [new_job() for _ in range(backend.capabilities.max_atomic_insert + 1)]
        async with begin() as transaction:
            connection = transaction.connection
            with pytest.raises(DuplicateJobError):
                await backend.insert(
                    [*jobs, new_job(request_id=jobs[0].request_id, arguments="[[],{}]")],
                    atomic=False,
                    connection=connection,
                    now=NOW,
                )
            await transaction.commit()
        assert (await backend.find(JobQuery())).total == 0

    async def test_what_is_no_connection_is_refused_by_its_kind(self, backend: Backend) -> None:
        with pytest.raises(InvalidOptionError, match="connection"):
            await backend.insert([new_job()], connection={}, now=NOW)
