"""Conformance: hints, which wake the listeners of a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import cast

import pytest

from deeper_tasks.backends.protocol import Backend, Notification, QueueSettings, Topic
from deeper_tasks.domain.cron import parse_recurrence
from deeper_tasks.domain.job import JobSpec
from deeper_tasks.domain.schedule import Schedule, plan_firing
from deeper_tasks.domain.settlement import End
from deeper_tasks.testing.conformance.builders import (
    DAY,
    MINUTE,
    NOW,
    QUEUE,
    join,
    new_id,
    new_job,
    only,
    put,
    put_running,
    rescue_all,
    settle,
    take,
)

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


async def insert_until_heard(backend: Backend, *tasks: asyncio.Task[bool]) -> None:
    """Insert a job again and again: a listener hears only what is sent after it began to listen."""
    pending = set(tasks)
    try:
        async with asyncio.timeout(PATIENCE):
            while pending:
                await backend.insert([new_job(queue=HINT.subject)])
                _, pending = await asyncio.wait(pending, timeout=0.005)
    except TimeoutError:
        await backend.close()  # or a listener in a thread would wait forever
        pytest.fail(f"of {len(tasks)} listeners {len(pending)} heard nothing in {PATIENCE:g} s")
    assert all([await task for task in tasks]), "a listener ended before it heard anything"


async def _insert_past_due(backend: Backend) -> None:
    await put(backend, due=datetime.now(UTC) - MINUTE, now=datetime.now(UTC))


async def _promote(backend: Backend) -> None:
    await put(backend, delay=MINUTE)
    await backend.promote(now=NOW + MINUTE)


async def _rescue(backend: Backend) -> None:
    node = await join(backend)
    await put(backend)
    await take(backend, node)
    await rescue_all(backend, node)


async def _retry_soon(backend: Backend) -> None:
    await settle(backend, [await put_running(backend, await join(backend))], End.RETRY)


async def _cancel_running(backend: Backend) -> None:
    job = await put_running(backend, await join(backend))
    await backend.cancel(only(job.id), reason="enough", now=NOW)


async def _retry(backend: Backend) -> None:
    job_id = await put(backend)
    await backend.cancel(only(job_id), reason="enough", now=NOW)
    await backend.retry(only(job_id), now=NOW)


async def _make_due(backend: Backend) -> None:
    await backend.reschedule(await put(backend, delay=DAY), due=None, now=NOW)


async def _bring_forward(backend: Backend) -> None:
    await backend.reschedule(await put(backend, delay=DAY), due=MINUTE, now=NOW)


async def _pause(backend: Backend) -> None:
    await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))


async def _resume(backend: Backend) -> None:
    await backend.put_queue(QueueSettings(name=QUEUE))


_REPORT = Schedule(
    name="report",
    recurrence=parse_recurrence("@daily"),
    spec=JobSpec(task="shop.report", arguments="[[],{}]", queue="reports"),
)


async def _put_schedule(backend: Backend) -> None:
    await backend.put_schedule(_REPORT, now=NOW)


async def _resume_schedule(backend: Backend) -> None:
    await backend.put_schedule(_REPORT, now=NOW)
    await backend.pause_schedule(_REPORT.name, is_paused=True, now=NOW)
    await backend.pause_schedule(_REPORT.name, is_paused=False, now=NOW)


async def _fire(backend: Backend) -> None:
    entry = await backend.put_schedule(_REPORT, now=NOW)
    due = entry.next_run
    assert due is not None
    firing = plan_firing(entry, now=due)
    assert firing is not None
    await backend.fire(firing, now=due)


async def _run_schedule(backend: Backend) -> None:
    await backend.put_schedule(_REPORT, now=NOW)
    await backend.run_schedule(_REPORT.name, request_id=new_id(), now=NOW)


_JOBS = Notification(topic=Topic.JOBS, subject=QUEUE)

CHANGES: dict[str, tuple[Callable[[Backend], Awaitable[None]], Notification]] = {
    "insert of a job whose due time has passed": (_insert_past_due, _JOBS),
    "promote": (_promote, _JOBS),
    "rescue": (_rescue, _JOBS),
    "retry that is due soon": (_retry_soon, Notification(topic=Topic.SCHEDULES)),
    "cancel of a running job": (_cancel_running, Notification(topic=Topic.CONTROL)),
    "retry": (_retry, _JOBS),
    "reschedule to now": (_make_due, _JOBS),
    "reschedule to later": (_bring_forward, Notification(topic=Topic.SCHEDULES)),
    "pause of a queue": (_pause, Notification(topic=Topic.CONTROL, subject=QUEUE)),
    "end of a pause": (_resume, _JOBS),
}
"""Each change that wakes a listener, and the hint of it."""

SCHEDULE_CHANGES: dict[str, tuple[Callable[[Backend], Awaitable[None]], Notification]] = {
    "put of an entry": (_put_schedule, Notification(topic=Topic.SCHEDULES)),
    "resume of an entry": (_resume_schedule, Notification(topic=Topic.SCHEDULES)),
    "firing": (_fire, Notification(topic=Topic.JOBS, subject="reports")),
    "run of an entry": (_run_schedule, Notification(topic=Topic.JOBS, subject="reports")),
}
"""Each change of schedules that wakes a listener, and the hint of it."""


async def check_heard(backend: Backend, act: Callable[[Backend], Awaitable[None]], wanted: Notification) -> None:
    """Check that a listener hears a hint of a change. The change is made again and again, since a hint may be lost."""
    heard = asyncio.create_task(hear(backend, wanted))
    async with asyncio.timeout(PATIENCE):
        while not heard.done():
            await act(backend)
            await asyncio.wait([heard], timeout=0.005)
    assert heard.result()


class HintsConformance:
    """The promises about hints. A hint may be lost, so the tests repeat their change."""

    @pytest.fixture
    def _has_hints(self, backend: Backend) -> None:
        if not backend.capabilities.has_hints:
            pytest.skip("the store has no hints")

    async def test_in_a_store_without_hints_listening_ends_at_once(self, backend: Backend) -> None:
        if not backend.capabilities.has_hints:
            async with asyncio.timeout(PATIENCE):
                assert [hint async for hint in backend.listen()] == []

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_listener_hears_a_hint(self, backend: Backend) -> None:
        await insert_until_heard(backend, asyncio.create_task(hear(backend)))

    @pytest.mark.usefixtures("_has_hints")
    async def test_every_listener_hears_a_hint(self, backend: Backend) -> None:
        await insert_until_heard(backend, *(asyncio.create_task(hear(backend)) for _ in range(3)))

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_listener_on_another_loop_hears_a_hint(self, backend: Backend) -> None:
        listening = asyncio.create_task(asyncio.to_thread(asyncio.run, hear(backend)))
        await insert_until_heard(backend, listening)

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_listener_that_is_closed_stops_and_leaves_the_others(self, backend: Backend) -> None:
        stopped = asyncio.create_task(hear(backend, Notification(topic=Topic.CONTROL, subject="never")))
        other = asyncio.create_task(hear(backend))
        await insert_until_heard(backend, other)
        stopped.cancel()
        await asyncio.wait([stopped])
        assert stopped.cancelled()
        await insert_until_heard(backend, asyncio.create_task(hear(backend)))

    @pytest.mark.usefixtures("_has_hints")
    async def test_closing_the_backend_ends_its_listeners(self, backend: Backend) -> None:
        listening = asyncio.create_task(hear(backend, Notification(topic=Topic.CONTROL, subject="never")))
        await insert_until_heard(backend, asyncio.create_task(hear(backend)))
        await backend.close()
        await asyncio.wait_for(listening, timeout=PATIENCE)
        await backend.open()

    @pytest.mark.usefixtures("_has_hints")
    @pytest.mark.parametrize("change", CHANGES)
    async def test_a_change_wakes_the_listeners_that_it_concerns(self, backend: Backend, change: str) -> None:
        await check_heard(backend, *CHANGES[change])

    @pytest.mark.usefixtures("_has_hints")
    async def test_a_job_that_is_given_back_wakes_the_listeners_of_its_queue(self, backend: Backend) -> None:
        node = await join(backend)
        await put(backend)
        # The hint of that insert is sent before another that is heard.
        await insert_until_heard(backend, asyncio.create_task(hear(backend)))

        async def give_back(backend: Backend) -> None:
            await settle(backend, await take(backend, node), End.RELEASE)

        await check_heard(backend, give_back, _JOBS)


class ScheduleHintsConformance:
    """The promises about the hints of schedules: for a store that has both roles."""

    @pytest.mark.parametrize("change", SCHEDULE_CHANGES)
    async def test_a_change_of_an_entry_wakes_the_listeners_that_it_concerns(
        self, backend: Backend, change: str
    ) -> None:
        if not backend.capabilities.has_hints:
            pytest.skip("the store has no hints")
        await check_heard(backend, *SCHEDULE_CHANGES[change])
