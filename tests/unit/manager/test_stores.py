"""Stores that other packages bring: found by their entry points, and told apart from those that are broken."""

import sys

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import BackendUnavailableError, ConfigError
from deeper_tasks.manager.stores import make_backend

_PACKAGE = """
from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.errors import BackendUnavailableError, ConfigError

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
        ("cupboard:make_nothing", "returned 'object', which is not a Backend"),
    ],
)
def test_a_broken_entry_point_is_an_error_that_names_the_package(package, value, words):
    package(cupboard=value)

    with pytest.raises(ConfigError, match="cupboard-store") as raised:
        make_backend("cupboard://")
    assert words in str(raised.value)


ODD_URLS = (
    "postgres://u:hunter2@[::1/db",
    "postgres://u:hunter2@::1]/db",
    "postgres://u:hunter2@[zz]/db",
    "postgres://u:hunter2@h℀st/db",
    "foo://u:hunter2@[::1/db",
    "memory://[::1",
    "noop://[",
    "sqlite://u:hunter2@[/tasks.db",
    "sqlite:///a%00b.db",
    "sqlite:///tasks.db?timeout=1e308",
    "postgres://u:hunter2%zz@localhost/db",
    "postgres://u:hunter2%ff@localhost/db",
    "postgres://\udcff:hunter2@localhost/db",
    "postgres://u:hunter2@localhost:port/db",
    "postgres://u:hunter2@localhost:65536/db",
    "postgres://u:hunter2@localhost:5432,localhost:-1/db",
    "postgres://u:hun/ter2@localhost/db",
)


@pytest.mark.parametrize("url", ODD_URLS)
def test_a_url_that_cannot_be_one_is_refused_without_its_password(url):
    for make in (make_backend, BackgroundTaskManager):
        with pytest.raises(ConfigError) as refused:
            make(url)
        assert "hun" not in str(refused.value)
    with pytest.raises(ConfigError):
        BackgroundTaskManager("postgresql://localhost/db", listen_url=url)


def test_a_url_that_cannot_be_taken_apart_is_shown_as_a_setting():
    with pytest.raises(ConfigError, match=r"'url' cannot be 'postgres://u:\*\*\*@\[::1/db' .*brackets"):
        BackgroundTaskManager("postgres://u:hunter2@[::1/db")


@pytest.mark.parametrize("path", ["a" * 300, "a/" * 3000 + "tasks.db"])
async def test_a_file_whose_name_is_too_long_is_an_error_of_the_store(path):
    manager = BackgroundTaskManager(f"sqlite:///{path}")
    for create in (False, True):
        with pytest.raises(BackendUnavailableError, match="File name too long"):
            await manager.open(create=create)
    assert "File name too long" in str(await manager.diagnose())
    await manager.close()


def test_a_store_whose_driver_is_missing_names_the_extra_that_brings_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("deeper_tasks.backends.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ConfigError, match="needs psycopg 3: install deeper_tasks with its extra 'postgres'"):
        make_backend("postgresql://localhost/shop")


def test_a_store_of_a_package_is_refused_with_a_listen_url(package):
    package(cupboard="cupboard:make")

    with pytest.raises(ConfigError, match="'listen_url' is only for postgresql:// stores"):
        make_backend("cupboard://", listen_url="postgresql://localhost/shop")
