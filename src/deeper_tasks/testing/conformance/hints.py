"""Conformance: hints, to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import cast

import pytest

from deeper_tasks.backends.protocol import Backend, Notification, Topic
from deeper_tasks.testing.conformance.builders import new_job

PATIENCE = 30.0
"""Seconds in which a hint that is sent again and again must have been heard."""

HINT = Notification(topic=Topic.JOBS, subject="emails, größe")


async def hear(backend: Backend, wanted: Notification = HINT) -> bool:
    """Listen until a hint arrives; False if the listening ends before."""
    async with aclosing(cast("_Closable", backend.listen())) as heard:
        async for notification in heard:
            if notification == wanted:
                return True
    return False


class _Closable(AsyncIterator[Notification]):
    async def aclose(self) -> None: ...


async def tell_until_done(backend: Backend, *tasks: asyncio.Task[bool]) -> None:
    """Send a hint again and again: a listener hears only what is sent after it began to listen."""
    pending = set(tasks)
    try:
        async with asyncio.timeout(PATIENCE):
            while pending:
                await backend.notify([HINT])
                _, pending = await asyncio.wait(pending, timeout=0.005)
    except TimeoutError:
        await backend.close()  # or a listener in a thread would wait for ever
        pytest.fail(f"of {len(tasks)} listeners {len(pending)} heard nothing in {PATIENCE:g} s")
    assert all([await task for task in tasks]), "a listener ended before it heard anything"


class HintsConformance:
    """What holds for `notify` and `listen`. A hint may be lost, so the tests repeat theirs."""

    @pytest.fixture
    def _has_hints(self, backend: Backend) -> None:
        if not backend.capabilities.has_hints:
            pytest.skip("the store has no hints")

    async def test_in_a_store_without_hints_listening_ends_at_once(self, backend: Backend) -> None:
        if not backend.capabilities.has_hints:
            async with asyncio.timeout(PATIENCE):
                assert [hint async for hint in backend.listen()] == []

    async def test_a_hint_that_nobody_hears_is_no_error(self, backend: Backend) -> None:
        await backend.notify([HINT, Notification(topic=Topic.CONTROL), Notification(topic=Topic.SCHEDULES)])
        await backend.notify([])

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_listener_hears_a_hint(self, backend: Backend) -> None:
        await tell_until_done(backend, asyncio.create_task(hear(backend)))

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_store_whose_inserts_send_hints_is_heard_when_a_job_is_inserted(self, backend: Backend) -> None:
        if not backend.capabilities.insert_sends_hints:
            pytest.skip("who inserts notifies")
        hearing = asyncio.create_task(hear(backend))
        async with asyncio.timeout(PATIENCE):
            while not hearing.done():
                await backend.insert([new_job(queue=HINT.subject)])
                await asyncio.wait([hearing], timeout=0.005)
        assert hearing.result()

    @pytest.mark.usefixtures("_has_hints")
    async def test_every_listener_hears_a_hint(self, backend: Backend) -> None:
        await tell_until_done(backend, *(asyncio.create_task(hear(backend)) for _ in range(3)))

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_listener_on_another_loop_hears_a_hint(self, backend: Backend) -> None:
        listening = asyncio.create_task(asyncio.to_thread(asyncio.run, hear(backend)))
        await tell_until_done(backend, listening)

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_listener_that_is_closed_stops_and_leaves_the_others(self, backend: Backend) -> None:
        stopped = asyncio.create_task(hear(backend, Notification(topic=Topic.CONTROL, subject="never")))
        other = asyncio.create_task(hear(backend))
        await tell_until_done(backend, other)
        stopped.cancel()
        await asyncio.wait([stopped])
        assert stopped.cancelled()
        await tell_until_done(backend, asyncio.create_task(hear(backend)))

    @pytest.mark.usefixtures("_has_hints")
    async def test_closing_the_backend_ends_its_listeners(self, backend: Backend) -> None:
        listening = asyncio.create_task(hear(backend, Notification(topic=Topic.CONTROL, subject="never")))
        await tell_until_done(backend, asyncio.create_task(hear(backend)))
        await backend.close()
        await asyncio.wait_for(listening, timeout=PATIENCE)
        await backend.open()
