"""What the tests of the kit share: a manager whose own store no test may touch, and a kit around it."""

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.testing import use_memory


@pytest.fixture
def manager(tmp_path):
    manager = BackgroundTaskManager(f"sqlite:///{tmp_path}/untouched.db", queues={"default": 10, "emails": 5})
    yield manager
    assert not (tmp_path / "untouched.db").exists()


@pytest.fixture
def kit(manager):
    with use_memory(manager) as kit:
        yield kit
