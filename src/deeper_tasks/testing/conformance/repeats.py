"""Conformance: what a settle is answered that is sent again, with every other call between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from deeper_tasks.backends.protocol import Backend, JobFilter, Retention
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.job import ClaimedJob
from deeper_tasks.domain.settlement import End, Settled, Settlement
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    BOOM,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    every_job,
    join,
    look,
    only,
    put_many,
    rescue_all,
    settle,
    settlement,
    take,
    take_all,
)

ALL = JobFilter()
LATER = NOW + 2 * HOUR
Between = Callable[[Backend, NodeId, Sequence[Settlement]], Awaitable[object]]
"""The calls between a settle and its repeat, some of them by the worker `node`."""


async def _nothing(_backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    pass


async def _beat(backend: Backend, node: NodeId, _sent: Sequence[Settlement]) -> None:
    await backend.beat(node, now=NOW)


async def _settle_otherwise(backend: Backend, _node: NodeId, sent: Sequence[Settlement]) -> None:
    await backend.settle([Settlement(id=one.id, token=one.token, end=End.DISCARD, error=BOOM) for one in sent], now=NOW)


async def _deregister(backend: Backend, node: NodeId, _sent: Sequence[Settlement]) -> None:
    await backend.deregister(node)


async def _rescue(backend: Backend, node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert await rescue_all(backend, node) == []


async def _promote(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert (await backend.promote(now=NOW + HOUR - SECOND)).count > 0


async def _expire(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert await backend.expire(now=LATER) != []


async def _promote_and_expire(backend: Backend, node: NodeId, sent: Sequence[Settlement]) -> None:
    await _promote(backend, node, sent)
    await _expire(backend, node, sent)


async def _cancel(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert await backend.cancel(ALL, reason="enough", now=NOW) != []


async def _retry(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert await backend.retry(ALL, now=NOW) != []


async def _retry_and_cancel_and_retry(backend: Backend, node: NodeId, sent: Sequence[Settlement]) -> None:
    await _retry(backend, node, sent)
    await _cancel(backend, node, sent)
    await _retry(backend, node, sent)


async def _prune_others(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert await backend.prune(Retention(completed=DAY, failed=DAY), now=LATER) == 0


async def _delete(backend: Backend, _node: NodeId, sent: Sequence[Settlement]) -> None:
    assert len(await backend.delete(ALL)) == len(sent)


async def _prune(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    assert await backend.prune(Retention(completed=HOUR, failed=HOUR), now=LATER) > 0
    await backend.delete(JobFilter(states=frozenset({State.PENDING, State.SCHEDULED, State.RETRYABLE})))


async def _claim(backend: Backend, _node: NodeId, _sent: Sequence[Settlement]) -> None:
    await backend.retry(ALL, now=NOW)
    await backend.promote(now=NOW + MINUTE)
    await take_all(backend, await join(backend), now=NOW + MINUTE)


async def _claim_and_rescue(backend: Backend, node: NodeId, sent: Sequence[Settlement]) -> None:
    await _claim(backend, node, sent)
    [other] = [record.node.id for record in await backend.nodes() if record.node.id != node]
    assert await rescue_all(backend, other) != []


async def _claim_and_settle(backend: Backend, node: NodeId, _sent: Sequence[Settlement]) -> None:
    await backend.retry(ALL, now=NOW)
    await backend.promote(now=NOW + MINUTE)
    await settle(backend, await take_all(backend, node, now=NOW + MINUTE), now=NOW + MINUTE)


async def _claim_and_release(backend: Backend, node: NodeId, _sent: Sequence[Settlement]) -> None:
    await backend.retry(ALL, now=NOW)
    await backend.promote(now=NOW + MINUTE)
    await settle(backend, await take_all(backend, node, now=NOW + MINUTE), End.RELEASE, now=NOW + MINUTE)


_SPARED = [
    _nothing,
    _beat,
    _settle_otherwise,
    _deregister,
    _rescue,
    _promote,
    _expire,
    _promote_and_expire,
    _cancel,
    _retry,
    _retry_and_cancel_and_retry,
    _prune_others,
]
_TAKEN = [_claim, _claim_and_rescue, _claim_and_settle, _claim_and_release]
_GONE = [_delete, _prune]


def _name(between: Between) -> str:
    return getattr(between, "__name__", "").removeprefix("_").replace("_", " ")


class RepeatConformance:
    """The contract of a settle that is sent again."""

    @pytest.mark.parametrize("between", _SPARED, ids=_name)
    async def test_a_settle_sent_again_is_answered_with_the_state_it_led_to(
        self, backend: Backend, between: Between
    ) -> None:
        node = await join(backend)
        sent, settled = await _settled(backend, node)
        await between(backend, node, sent)
        await _check_answer(backend, sent, settled)

    @pytest.mark.parametrize("between", _TAKEN, ids=_name)
    async def test_a_settle_sent_again_is_left_out_once_the_job_is_claimed_again(
        self, backend: Backend, between: Between
    ) -> None:
        node = await join(backend)
        sent, settled = await _settled(backend, node)
        await between(backend, node, sent)
        await _check_answer(backend, sent, [one for one in settled if one.state is State.COMPLETED])

    @pytest.mark.parametrize("between", _GONE, ids=_name)
    async def test_a_settle_sent_again_is_left_out_once_the_job_is_deleted(
        self, backend: Backend, between: Between
    ) -> None:
        node = await join(backend)
        sent, _ = await _settled(backend, node)
        await between(backend, node, sent)
        await _check_answer(backend, sent, [])

    async def test_a_job_whose_cancel_was_requested_is_answered_as_cancelled_after_its_retry_too(
        self, backend: Backend
    ) -> None:
        node = await join(backend)
        [job_id] = await put_many(backend, 1)
        sent = [settlement(job, End.RELEASE) for job in await take(backend, node)]
        await backend.cancel(only(job_id), reason="enough", now=NOW)
        settled = await backend.settle(sent, now=NOW)
        assert settled == [Settled(id=job_id, state=State.CANCELLED)]
        await backend.retry(only(job_id), now=NOW)
        await _check_answer(backend, sent, settled)

    async def test_each_token_is_answered_with_what_its_own_settle_led_to(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, 1)
        first = [settlement(job, End.RETRY) for job in await take(backend, node)]
        await backend.settle(first, now=NOW)
        await backend.promote(now=NOW)
        for end, state in ((End.RELEASE, State.PENDING), (End.COMPLETE, State.COMPLETED)):
            second = [settlement(job, end) for job in await take(backend, node)]
            assert [one.state for one in await backend.settle(second, now=NOW)] == [state]
            assert [one.state for one in await backend.settle([*first, *second], now=NOW)] == [state]

    async def test_the_same_settlement_twice_in_one_call_is_answered_twice_alike(self, backend: Backend) -> None:
        node = await join(backend)
        await put_many(backend, len(End))
        for end, job in zip(End, await take(backend, node, limit=len(End)), strict=True):
            await self._check_twice(backend, job, end)

    async def _check_twice(self, backend: Backend, job: ClaimedJob, end: End) -> None:
        errors = [] if end is End.COMPLETE else [BOOM]
        sent = settlement(job, end, delay=MINUTE, error=BOOM if errors else None, ran_for=SECOND)
        other = settlement(job, End.DISCARD)
        answers = await backend.settle([sent, sent, other], now=NOW)
        [alone] = await backend.settle([sent], now=NOW + HOUR)
        assert answers == [alone] * 3
        kept = await look(backend, job.id)
        assert (kept.state, len(kept.errors)) == (alone.state, len(errors))


async def _settled(backend: Backend, node: NodeId) -> tuple[list[Settlement], list[Settled]]:
    """Have a job end in each way, without another pending; all of them expire in an hour."""
    ends = [*End, End.RELEASE]
    await put_many(backend, len(ends), expires_in=HOUR, max_attempts=9)
    jobs = await take(backend, node, limit=len(ends))
    sent = [settlement(job, end, delay=MINUTE, error=BOOM) for job, end in zip(jobs, ends, strict=True)]
    sent[-1] = settlement(jobs[-1], End.RELEASE)
    settled = await backend.settle(sent, now=NOW)
    assert len(settled) == len(sent)
    return sent, settled


async def _check_answer(backend: Backend, sent: Sequence[Settlement], expected: Sequence[Settled]) -> None:
    """Check what the same settlements are answered now, and that they change nothing."""
    before = await every_job(backend)
    again = await backend.settle(sent, now=NOW + DAY)
    assert sorted((one.id, one.state) for one in again) == sorted((one.id, one.state) for one in expected)
    assert await every_job(backend) == before
