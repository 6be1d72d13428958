"""The command on a store that keeps no schedules and no progress: each answer names the lack and the way out."""

import json

import pytest

from deeper_tasks.manager import stores

URL = "foreign://"

SHOP = """
from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("foreign://")


@manager.task
async def add(a: int, b: int = 0) -> int:
    return a + b
"""

RECURRING = """

@manager.task(cron="@hourly")
def tick() -> None: ...
"""

LACK = "the store 'foreign://' keeps no schedules: use a store that does, such as sqlite:///tasks.db or postgresql://"


@pytest.fixture(autouse=True)
def _foreign_store(monkeypatch, folder):
    monkeypatch.setitem(stores.URL_MODULES, "foreign", "foreign_store")
    (folder / "shop.py").write_text(SHOP)


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("next", "tick"),
        ("run", "tick"),
        ("pause", "tick"),
        ("resume", "tick"),
        ("history", "tick"),
        ("remove", "tick"),
    ],
    ids=lambda words: words[0],
)
def test_each_command_about_schedules_is_refused(deeper, words):
    result = deeper("schedules", *words, "--url", URL)
    assert result.exit_code == 1
    assert LACK in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_a_worker_of_an_application_with_a_recurring_task_is_refused(deeper, folder):
    (folder / "shop.py").write_text(SHOP + RECURRING)
    result = deeper("worker", "shop")
    assert result.exit_code != 0
    assert LACK in " ".join(result.stderr.split())


def test_the_doctor_and_the_statistics_answer(deeper):
    examined = deeper("doctor", "--url", URL, "--json")
    assert {each["severity"] for each in json.loads(examined.stdout)["findings"]} <= {"ok", "warning"}
    assert deeper("stats", "--url", URL).exit_code == 0
