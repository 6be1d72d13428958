"""What the page of the API lists can be imported from where the page says."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import deeper_tasks

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs" / "reference" / "api.md").read_text("utf-8")
_EVENTS = (_ROOT / "docs" / "reference" / "events.md").read_text("utf-8")
_MODULE = re.compile(r"(?:They are in|In) `(deeper_tasks[\w.]*)`")
_TITLES = {"Outcomes", "Enumerations"}
_IMPORT = re.compile(r"^ *from (deeper_tasks[\w.]*) import (?:\(([^)]*)\)|([^\n#(]+))", re.MULTILINE)


def sections():
    """Yield each part of the page: its title, the module that it names, and its text."""
    for part in re.split(r"^## ", _PAGE, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        found = _MODULE.search(text.partition("\n### ")[0])
        yield title, found[1] if found else "deeper_tasks", text


def listed():
    """Yield what the page lists: a module, and a name in it that may have a member's behind a dot."""
    for title, module, text in sections():
        if title == "BackgroundTaskManager":
            yield module, title
            yield from ((module, f"{title}.{name}") for name in re.findall(r"^#### (\w+)$", text, re.MULTILINE))
            names = ["Conditions"]
        else:
            names = [name for name in re.findall(r"^### (\w+)$", text, re.MULTILINE) if name not in _TITLES]
            names += re.findall(r"^#### (\w+\.\w+)$", text, re.MULTILINE)
        names += re.findall(r"^```text\n([A-Z]\w+)\(", text, re.MULTILINE)
        # The tables of enumerations and errors; those of properties begin with a small letter.
        names += re.findall(r"^\| `([A-Z]\w+)` \|", text, re.MULTILINE)
        yield from ((module, name) for name in names)


def test_the_page_is_read_as_it_is_meant():
    found = dict.fromkeys(listed())
    assert len(found) > 120
    for each in ("TaskStatus", "BoundTask.enqueue", "Retry", "State", "BackgroundTaskManager.include", "View.to_dict"):
        assert ("deeper_tasks", each) in found
    assert ("deeper_tasks.errors", "JobNotFoundError") in found
    assert ("deeper_tasks.testing", "Fault.end") in found


def test_everything_that_the_page_lists_can_be_imported_from_where_it_says():
    missing = []
    for module, name in listed():
        holder, *member = name.split(".")
        found = getattr(importlib.import_module(module), holder, None)
        if found is None or not all(hasattr(found, each) for each in member):
            missing.append(f"{module}.{name}")
    assert missing == []


def test_everything_that_the_package_exports_is_there_and_listed():
    for module in ("deeper_tasks", "deeper_tasks.testing"):
        loaded = importlib.import_module(module)
        assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []
    assert len(set(deeper_tasks.__all__)) == len(deeper_tasks.__all__)


def test_every_event_of_the_page_can_be_imported_from_where_it_says():
    [module] = re.findall(r"Import the kinds from\s+`([\w.]+)`", _EVENTS)
    names = re.findall(r"^\| `(\w+)` \|", _EVENTS, re.MULTILINE)
    assert len(names) > 20
    loaded = importlib.import_module(module)
    assert [name for name in names if not inspect.isclass(getattr(loaded, name, None))] == []


@pytest.mark.parametrize(
    "page",
    [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(_ROOT)),
)
def test_what_a_page_imports_is_there(page):
    for module, several, one in _IMPORT.findall(page.read_text("utf-8")):
        loaded = importlib.import_module(module)
        names = [each.partition(" as ")[0].strip() for each in (several or one).split(",") if each.strip()]
        missing = [name for name in names if not hasattr(loaded, name)]
        assert [name for name in missing if not _is_module(f"{module}.{name}")] == [], module


def _is_module(name):
    """Whether there is such a module, also one that no test has imported yet."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
