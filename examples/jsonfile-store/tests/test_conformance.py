"""The store keeps the promises of the protocol."""

import pytest

from deeper_tasks.testing import BackendConformance, SharedConformance
from deeper_tasks_jsonfile import make_backend


class TestJsonFileBackend(SharedConformance, BackendConformance):
    """All of the suite, with what holds for a store that is shared."""

    @pytest.fixture
    async def backend(self, tmp_path):
        """Give an open and empty store."""
        backend = make_backend(f"jsonfile:///{tmp_path}/jobs.json")
        await backend.open()
        yield backend
        await backend.close()

    @pytest.fixture
    async def other(self, backend, tmp_path):
        """Give a second instance on the same file."""
        other = make_backend(f"jsonfile:///{tmp_path}/jobs.json")
        await other.open()
        yield other
        await other.close()
