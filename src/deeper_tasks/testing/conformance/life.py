"""Conformance: opening, closing and migrating a store."""

from __future__ import annotations

from deeper_tasks.backends.protocol import Backend
from deeper_tasks.domain.state import State
from deeper_tasks.testing.conformance.builders import put, state_of


class LifeConformance:
    """The contract of `open`, `close` and `migrate`."""

    async def test_a_second_open_changes_nothing(self, backend: Backend) -> None:
        job_id = await put(backend)
        assert await backend.open() is False
        assert await state_of(backend, job_id) is State.PENDING

    async def test_an_open_store_has_nothing_to_migrate(self, backend: Backend) -> None:
        assert await backend.migrate() == ()

    async def test_a_durable_store_still_has_its_jobs_after_it_was_closed(self, backend: Backend) -> None:
        job_id = await put(backend)
        await backend.close()
        assert await backend.open() is False
        if backend.capabilities.is_durable:
            assert await state_of(backend, job_id) is State.PENDING

    async def test_a_second_close_does_nothing(self, backend: Backend) -> None:
        await backend.close()
        await backend.close()
        await backend.open()
