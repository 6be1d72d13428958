"""The heart watch: a heartbeat that is at work no more is noticed, once."""

import asyncio
from datetime import timedelta

from deeper_tasks.worker.liveness import heartbeat_watch
from deeper_tasks.worker.liveness.heartbeat_watch import HeartbeatWatch


async def test_a_heartbeat_without_a_sign_for_half_a_lease_is_silent(monkeypatch):
    monkeypatch.setattr(heartbeat_watch, "_INTERVAL", 0)
    silent = asyncio.Event()
    watch = HeartbeatWatch(signs=lambda: 7, lease=timedelta(seconds=20), on_silence=silent.set)
    watching = asyncio.create_task(watch.run())
    async with asyncio.timeout(10):
        await silent.wait()
    watching.cancel()


def test_signs_keep_it_from_that():
    signs = [0]
    watch = HeartbeatWatch(signs=lambda: signs[0], lease=timedelta(seconds=20), on_silence=lambda: None)
    for _ in range(3):
        assert [watch.is_silent() for _ in range(10)] == [False] * 10
        signs[0] += 1
    assert [watch.is_silent() for _ in range(11)] == [False] * 10 + [True]
