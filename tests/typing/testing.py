"""
What mypy and pyright must accept and refuse about the testing kit.

Its faulty store is a store, and `sync` keeps the types.
"""

from __future__ import annotations

from typing import assert_type

from deeper_tasks import BackgroundTaskManager, TaskStatus
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Backend
from deeper_tasks.testing import BackendConformance, FaultyBackend, Summary, TaskKit, use_memory

manager = BackgroundTaskManager("memory://")


@manager.task
async def send(user_id: int) -> None: ...


def a_faulty_store_is_a_store() -> Backend:
    FaultyBackend(manager)  # type: ignore[arg-type]
    return FaultyBackend(FaultyBackend(MemoryBackend()))


async def the_kit_is_typed() -> None:
    with use_memory(manager) as kit:
        assert_type(kit, TaskKit)
        assert_type(await kit.advance(hours=1), Summary)
        assert_type(await kit.assert_enqueued(send, args=[1], count=1), list[TaskStatus])
        await kit.assert_enqueued(send, argz=[1])  # type: ignore[call-arg]
        await kit.drain(with_everything=True)  # type: ignore[call-arg]


def the_blocking_kit_is_typed_too(kit: TaskKit) -> None:
    assert_type(kit.sync.drain("emails"), Summary)
    assert_type(kit.sync.all_enqueued(send, tags=["vip"]), list[TaskStatus])
    kit.sync.refute_enqueued(send, argz=[1])  # type: ignore[call-arg]


class TestMine(BackendConformance):
    pass
