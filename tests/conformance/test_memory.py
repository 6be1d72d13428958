"""The memory store keeps the promises of the protocol."""

import pytest

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.testing import BackendConformance


class TestMemoryBackend(BackendConformance):
    @pytest.fixture
    async def backend(self):
        backend = MemoryBackend()
        await backend.open()
        yield backend
        await backend.close()
