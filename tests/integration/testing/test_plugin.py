"""The pytest plugin: a fixture around the user's manager, for every kind of test, and nothing where it is not used."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = """
from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("sqlite:///untouched.db")


@manager.task(queue="emails")
async def send_welcome(user_id: int):
    return f"welcome, {user_id}"
"""

SETTINGS = """
[pytest]
pythonpath = .
deeper_tasks_manager = shop:manager
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""

TESTS = """
from pathlib import Path

import pytest
from shop import manager, send_welcome

own = manager.backend


async def play(task_kit):
    task_id = await send_welcome.enqueue(42)
    await task_kit.assert_enqueued(send_welcome, args=[42], count=1)
    await task_kit.advance(hours=1)
    assert await manager.result(task_id) == "welcome, 42"


@pytest.mark.asyncio
async def test_with_pytest_asyncio(task_kit):
    await play(task_kit)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_with_anyio(task_kit):
    await play(task_kit)


def test_without_async(task_kit):
    task_id = manager.sync.enqueue_task(send_welcome, args=[42])
    task_kit.sync.assert_enqueued(send_welcome, args=[42], count=1)
    task_kit.sync.advance(hours=1)
    assert manager.sync.result(task_id) == "welcome, 42"


def test_afterwards_the_manager_has_its_own_store_and_that_was_never_touched():
    assert manager.backend is own
    assert not Path("untouched.db").exists()
"""


class Project:
    """A user's project, with the plugin installed as a package installs it."""

    def __init__(self, folder):
        self.folder = folder
        installed = folder / "installed" / "some_app-1.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: some-app\nVersion: 1\n")
        (installed / "entry_points.txt").write_text("[pytest11]\ndeeper_tasks = deeper_tasks_pytest\n")
        self.write("shop.py", APPLICATION)
        self.write("pytest.ini", SETTINGS)

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def run(self, *arguments):
        source = Path(__file__).parents[3] / "src"
        path = os.pathsep.join([str(self.folder / "installed"), str(source)])
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def passed(done, number):
    return done.returncode == 0 and re.search(rf"\b{number} passed", done.stdout)


@pytest.mark.timeout(180)
def test_the_fixture_serves_every_kind_of_test(project):
    project.write("test_shop.py", TESTS)
    done = project.run()
    assert passed(done, 4), done.stdout


@pytest.mark.timeout(180)
def test_a_fixture_of_the_user_s_own_may_name_the_manager(project):
    project.write("pytest.ini", SETTINGS.replace("deeper_tasks_manager = shop:manager", ""))
    project.write(
        "conftest.py",
        "import pytest\nimport shop\n\n\n@pytest.fixture\ndef deeper_tasks_manager():\n    return shop.manager\n",
    )
    project.write("test_shop.py", TESTS)
    done = project.run()
    assert passed(done, 4), done.stdout


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("", "does not know your manager: write the module"),
        ("shopp:manager", "'shopp:manager' cannot be imported: No module named 'shopp'; write the module"),
        ("shop:managr", "'shop:managr' cannot be imported"),
        ("shop manager", "'shop manager' cannot be imported: invalid format"),
        ("shop:send_welcome", "'shop:send_welcome' is a Task, not a manager"),
    ],
)
def test_a_manager_that_cannot_be_found_is_told_with_the_way_out(project, place, words):
    project.write("pytest.ini", SETTINGS.replace("shop:manager", place))
    project.write("test_shop.py", "def test_it(task_kit):\n    pass\n")
    done = project.run()
    assert done.returncode != 0
    assert words in done.stdout
    assert 'deeper_tasks_manager = "myapp.tasks:manager"' in done.stdout


@pytest.mark.timeout(180)
def test_a_run_without_tasks_does_not_import_the_package(project):
    project.write("pytest.ini", "[pytest]\n")
    project.write(
        "test_other.py",
        "import sys\n\ndef test_it():\n    assert 'deeper_tasks_pytest' in sys.modules\n"
        "    assert 'deeper_tasks' not in sys.modules\n",
    )
    done = project.run()
    assert passed(done, 1), done.stdout


@pytest.mark.timeout(180)
def test_the_plugin_can_be_switched_off(project):
    project.write("pytest.ini", "[pytest]\n")
    project.write("test_other.py", "def test_it():\n    pass\n\n\ndef test_kit(task_kit):\n    pass\n")
    done = project.run("-p", "no:deeper_tasks")
    assert "1 passed" in done.stdout
    assert "fixture 'task_kit' not found" in done.stdout


@pytest.mark.timeout(180)
def test_the_fixtures_and_the_option_explain_themselves(project):
    shown = project.run("--fixtures", "-q").stdout
    assert "Return a kit around the manager" in shown
    assert "deeper_tasks_manager (string)" in project.run("--help").stdout
