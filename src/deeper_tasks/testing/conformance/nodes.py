"""Conformance: the nodes that run jobs, and their beats."""

from __future__ import annotations

import pytest

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.ids import NodeId
from deeper_tasks.domain.settlement import End
from deeper_tasks.errors import NodeLostError
from deeper_tasks.testing.conformance.builders import (
    MINUTE,
    NOW,
    SECOND,
    join,
    new_node,
    node_record,
    only,
    put_many,
    put_running,
    rescue_all,
    settle,
    take,
)


class NodeConformance:
    """The contract of `register`, `deregister` and `beat`."""

    async def test_a_registered_node_is_known_with_all_it_said(self, backend: Backend) -> None:
        node = new_node()
        await backend.register(node, now=NOW)
        record = await node_record(backend, node.id)
        assert record.node == node
        assert (record.registered_at, record.beat_at, record.busy, record.is_lost) == (NOW, NOW, 0, False)

    async def test_registering_a_node_again_changes_nothing(self, backend: Backend) -> None:
        node = new_node()
        await backend.register(node, now=NOW)
        await backend.beat(node.id, busy=3, now=NOW + SECOND)
        before = await node_record(backend, node.id)
        await backend.register(node, now=NOW + MINUTE)
        assert await node_record(backend, node.id) == before

    async def test_a_beat_is_counted_with_its_time_and_load(self, backend: Backend) -> None:
        node = await join(backend)
        before = await node_record(backend, node)
        await backend.beat(node, busy=3, now=NOW + SECOND)
        await backend.beat(node, busy=4, now=NOW + 2 * SECOND)
        after = await node_record(backend, node)
        assert (after.beat - before.beat, after.busy, after.beat_at) == (2, 4, NOW + 2 * SECOND)

    async def test_a_beat_returns_the_jobs_that_the_store_thinks_the_node_runs(self, backend: Backend) -> None:
        node, other = await join(backend), await join(backend)
        await put_many(backend, 4)
        mine = [*await take(backend, node, limit=2, slots=1), *await take(backend, node)]
        await take(backend, other)
        await settle(backend, [mine[0]])
        beat = await backend.beat(node, now=NOW)
        assert beat.held == {job.id: job.token for job in mine[1:]}
        assert beat.cancels == {}

    async def test_every_beat_returns_a_requested_cancel_until_the_job_ends(self, backend: Backend) -> None:
        node, other = await join(backend), await join(backend)
        job = await put_running(backend, node)
        await put_running(backend, other)
        await backend.cancel(only(job.id), reason="enough", now=NOW)
        assert (await backend.beat(node, now=NOW)).cancels == {job.id: "enough"}
        assert (await backend.beat(node, now=NOW)).cancels == {job.id: "enough"}
        assert (await backend.beat(other, now=NOW)).cancels == {}
        await settle(backend, [job], End.CANCEL)
        assert (await backend.beat(node, now=NOW)).cancels == {}

    async def test_a_beat_of_a_node_that_never_registered_is_refused(self, backend: Backend) -> None:
        with pytest.raises(NodeLostError):
            await backend.beat(NodeId("never registered"), now=NOW)

    async def test_a_node_that_stopped_in_order_is_gone(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await settle(backend, [job])
        await backend.deregister(node)
        assert await backend.nodes() == []
        with pytest.raises(NodeLostError):
            await backend.beat(node, now=NOW)

    async def test_a_node_that_still_holds_jobs_is_left_to_be_rescued(self, backend: Backend) -> None:
        node = await join(backend)
        job = await put_running(backend, node)
        await backend.deregister(node)
        assert [record.node.id for record in await backend.nodes()] == [node]
        assert [settled.id for settled in await rescue_all(backend, node)] == [job.id]
        assert await backend.nodes() == []

    async def test_removing_an_unknown_node_does_nothing(self, backend: Backend) -> None:
        node = await join(backend)
        await backend.deregister(NodeId("never registered"))
        assert [record.node.id for record in await backend.nodes()] == [node]
