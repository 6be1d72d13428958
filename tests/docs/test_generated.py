"""The pages of the reference that are made from the code say what the code says now."""

import re
import sys
from pathlib import Path

import pytest

import deeper_tasks
from deeper_tasks import BackgroundTaskManager

_ROOT = Path(__file__).parents[2]
_NAMES = ["life-cycle.md", "events.md", "logs.md", "settings.md", "commands.md", "api.md"]


@pytest.fixture(scope="module")
def pages():
    sys.path.insert(0, str(_ROOT))
    from docs.generate.pages import PAGES

    yield PAGES
    sys.path.remove(str(_ROOT))


def test_all_of_them_are_looked_at(pages):
    assert list(pages) == _NAMES


@pytest.mark.parametrize("name", _NAMES)
def test_a_page_is_as_the_code_would_make_it_now(name, pages):
    assert (_ROOT / "docs" / "reference" / name).read_text("utf-8") == pages[name](), "run 'make docs'"


def test_every_setting_and_every_event_is_explained(pages):
    for name in ("settings.md", "events.md"):
        rows = [line.split(" | ") for line in pages[name]().splitlines() if line.startswith("| `")]
        assert rows
        assert [row[0] for row in rows if not row[-1 if name == "settings.md" else 1].strip(" |")] == []


def test_all_that_can_be_imported_and_every_method_is_on_the_page_of_the_api(pages):
    page = pages["api.md"]()
    assert [name for name in deeper_tasks.__all__ if not re.search(rf"\b{name}\b", page)] == []
    manager = BackgroundTaskManager("memory://")
    methods = {name for each in (manager, manager.sync) for name in dir(each) if not name.startswith("_")}
    # Its parts are attributes, `redactor` one that can be called; `enqueue_request` is what `task.enqueue` calls.
    public = {name for name in methods if callable(getattr(manager, name))} - {"enqueue_request", "redactor"}
    assert [name for name in sorted(public) if f"\n#### {name}\n" not in page] == []
