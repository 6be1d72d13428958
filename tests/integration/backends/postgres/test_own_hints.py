"""The PostgreSQL store sends the hints of its own changes, after their commit and without another call."""

from contextlib import aclosing

from deeper_tasks.backends.postgres.listener import MISSED
from deeper_tasks.backends.protocol import Notification, QueueSettings, Topic
from deeper_tasks.domain.schedule import plan_firing
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import (
    HOUR,
    NOW,
    QUEUE,
    join,
    new_id,
    only,
    put,
    put_ended,
    put_running,
)
from deeper_tasks.testing.conformance.schedules import HOURLY

JOBS, PAUSED = Notification(topic=Topic.JOBS, subject=QUEUE), Notification(topic=Topic.CONTROL, subject=QUEUE)
SCHEDULES, CONTROL = Notification(topic=Topic.SCHEDULES), Notification(topic=Topic.CONTROL)


async def test_every_change_that_wakes_a_part_sends_its_hint(backend):
    async with aclosing(backend.listen()) as hints:
        assert {await anext(hints) for _ in MISSED} == set(MISSED)

        async def heard():
            """Return the hints since this was asked last."""
            last = Notification(topic=Topic.JOBS, subject=f"until-{new_id()}")
            await backend.put_queue(QueueSettings(name=last.subject))
            found = []
            while (hint := await anext(hints)) != last:
                found.append(hint)
            return found

        late, node = await put(backend, delay=HOUR), await join(backend)
        assert await heard() == [SCHEDULES]
        await backend.promote(now=NOW)
        assert await heard() == []
        await backend.promote(now=NOW + HOUR)
        assert await heard() == [JOBS]
        await backend.reschedule(late, due=2 * HOUR, now=NOW)
        assert await heard() == [SCHEDULES]
        await backend.cancel(only(late), reason="enough", now=NOW)
        assert await heard() == []

        running = await put_running(backend, node)
        await heard()
        await backend.cancel(only(running.id), reason="enough", now=NOW)
        assert await heard() == [CONTROL]
        await put_running(backend, node, max_attempts=2)
        await heard()
        await backend.rescue(node, beat=0, now=NOW)
        assert await heard() == [JOBS]

        await backend.put_queue(QueueSettings(name=QUEUE, paused_at=NOW))
        assert await heard() == [PAUSED]


async def test_a_retry_and_a_recurring_entry_send_their_hints(backend, monkeypatch):
    sent = []

    async def notify(hints):
        sent.extend(hints)

    monkeypatch.setattr(backend._hints, "notify", notify)
    failed = await put_ended(backend, State.FAILED)
    sent.clear()
    await backend.retry(only(failed), now=NOW)
    assert sent == [JOBS]

    sent.clear()
    await backend.put_schedule(HOURLY, now=NOW)
    await backend.pause_schedule(HOURLY.name, is_paused=True, now=NOW)
    assert sent == [SCHEDULES]
    await backend.pause_schedule(HOURLY.name, is_paused=False, now=NOW)
    assert sent == [SCHEDULES, SCHEDULES]
    [entry] = (await backend.schedules(now=NOW)).entries
    firing = plan_firing(entry, now=NOW + HOUR)
    sent.clear()
    await backend.fire(firing, now=NOW + HOUR)
    await backend.fire(firing, now=NOW + HOUR)
    await backend.run_schedule(HOURLY.name, request_id=new_id(), now=NOW)
    assert [hint.topic for hint in sent] == [Topic.JOBS, Topic.JOBS]
