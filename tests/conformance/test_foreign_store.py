"""A store that lacks roles keeps the promises of the roles that it has."""

import pytest

from deeper_tasks.testing.conformance import BasicConformance
from foreign_store import ForeignBackend


class TestForeignBackend(BasicConformance):
    @pytest.fixture
    async def backend(self):
        backend = ForeignBackend()
        await backend.open()
        yield backend
        await backend.close()
