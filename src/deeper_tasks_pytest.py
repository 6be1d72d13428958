"""
The pytest plugin of deeper_tasks: the fixture `task_kit`, around the manager that an ini option names.

It is a module beside the package. pytest loads it at every start, and an import of the package would cost time in every
run, even without tests of tasks, and would come before the measurement of coverage begins.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from deeper_tasks import BackgroundTaskManager
    from deeper_tasks.testing import TaskKit

_OPTION = "deeper_tasks_manager"
_WAY_OUT = f"""write the module and the name of your manager into pytest's settings,
    [tool.pytest.ini_options]
    {_OPTION} = "myapp.tasks:manager"
or give a fixture `deeper_tasks_manager` of your own that returns it"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(_OPTION, "the manager that the fixture task_kit is about, such as myapp.tasks:manager", default="")


@pytest.fixture
def deeper_tasks_manager(pytestconfig: pytest.Config) -> BackgroundTaskManager:
    """Return the manager to test, which the ini option names; a test suite may override this fixture."""
    return _load(str(pytestconfig.getini(_OPTION)))


@pytest.fixture
def task_kit(deeper_tasks_manager: BackgroundTaskManager) -> Iterator[TaskKit]:
    """Return a kit around the manager, on an empty store in memory, with a clock that the test moves."""
    from deeper_tasks.testing import use_memory

    with use_memory(deeper_tasks_manager) as kit:
        yield kit


def _load(place: str) -> BackgroundTaskManager:
    from deeper_tasks import BackgroundTaskManager

    if not place:
        raise pytest.UsageError(f"task_kit does not know your manager: {_WAY_OUT}")
    try:
        found = pkgutil.resolve_name(place)
    except (ImportError, AttributeError, ValueError) as error:
        raise pytest.UsageError(f"{_OPTION} = {place!r} cannot be imported: {error}; {_WAY_OUT}") from error
    if not isinstance(found, BackgroundTaskManager):
        raise pytest.UsageError(f"{_OPTION} = {place!r} is a {type(found).__name__}, not a manager; {_WAY_OUT}")
    return found
