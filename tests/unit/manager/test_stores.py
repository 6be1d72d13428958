"""Stores that other packages bring: found by their entry points, and told apart from those that are broken."""

import sys

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import ConfigError
from deeper_tasks.manager.stores import make_backend

_PACKAGE = """
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import ConfigError

asked = []

def make(url):
    asked.append(url)
    if "?" in url:
        raise ConfigError(f"{url!r} has options, and there are none")
    return MemoryBackend()

def make_nothing(url):
    return object()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put an installed distribution on the path, that declares the entry points given."""

    def package(**entries):
        (tmp_path / "cupboard.py").write_text(_PACKAGE)
        metadata = tmp_path / "cupboard_store-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cupboard-store\nVersion: 1.0\n")
        lines = [f"{scheme} = {value}" for scheme, value in entries.items()]
        (metadata / "entry_points.txt").write_text("\n".join(["[deeper_tasks.backends]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "cupboard", raising=False)

    return package


async def test_a_package_brings_a_store_under_a_scheme_of_its_own(package):
    package(cupboard="cupboard:make")

    async with BackgroundTaskManager("cupboard://left/door") as manager:
        tidy = manager.task(name="tidy")(lambda: None)
        assert isinstance(manager.backend, MemoryBackend)
        task_id = await tidy.enqueue()
        assert (await manager.get_task_status(task_id)).task == "tidy"
    assert sys.modules["cupboard"].asked == ["cupboard://left/door"]


def test_a_package_cannot_take_over_a_scheme_of_ours(package):
    package(memory="cupboard:make_nothing")

    assert isinstance(make_backend("memory://"), MemoryBackend)


def test_the_error_of_an_unknown_scheme_names_those_that_packages_bring(package):
    package(cupboard="cupboard:make")

    with pytest.raises(ConfigError, match=r"'wardrobe://' has an unknown scheme.*sqlite://.*cupboard://"):
        make_backend("wardrobe://")


def test_a_url_that_the_package_refuses_is_its_own_error(package):
    package(cupboard="cupboard:make")

    with pytest.raises(ConfigError, match="has options, and there are none"):
        make_backend("cupboard://?door=left")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("cupboard:nowhere", "'cupboard-store' cannot be loaded"),
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("cupboard:make_nothing", "gave 'object', which is no Backend"),
    ],
)
def test_a_broken_entry_point_is_an_error_that_names_the_package(package, value, words):
    package(cupboard=value)

    with pytest.raises(ConfigError, match="cupboard-store") as raised:
        make_backend("cupboard://")
    assert words in str(raised.value)
