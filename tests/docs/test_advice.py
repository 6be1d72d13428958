"""What the guides advise, and what they must not."""

import re
from pathlib import Path

import pytest

from deeper_tasks.cli import main

_ROOT = Path(__file__).parents[2]


def told(pattern, *places):
    """Where files say it: lines as path and text."""
    files = [file for place in places for file in _ROOT.glob(place)]
    assert files
    return [
        f"{file.relative_to(_ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_text("utf-8").splitlines()
        if re.search(pattern, line)
    ]


def test_nothing_says_to_install_from_an_index_what_no_index_has():
    install = r"pip install\b.*\bdeeper[-_]tasks(?!/)"
    assert told(install, "*.md", "docs/**/*.md", "examples/**/*.md", "src/**/*.py") == []


@pytest.mark.parametrize("call", ["get_task_status", "list_tasks"])
def test_no_guide_returns_all_of_a_job_to_a_client(call):
    assert told(rf"return .*\b{call}\(.*\.to_dict\(\)", "README.md", "docs/**/*.md") == []


def test_guides_enqueue_a_task_that_they_have_by_its_own_typed_method():
    by_hand = told(r"\benqueue_task\(\w[\w.]*, args=\[", "README.md", "docs/how-to/*.md", "docs/tutorial/*.md")
    # One tells what it is for.
    assert [line.partition(":")[0] for line in by_hand] == ["docs/how-to/enqueue.md"]


def test_no_guide_says_to_try_again_where_that_is_of_no_use():
    assert told(r"(except|errorhandler\() ?BackendError\b", "README.md", "docs/**/*.md", "examples/**/*.py") == []


def test_every_command_that_a_page_names_is_there():
    word = r"(?:^\$ |^    |[`'\"(]|[|&;=] )deeper ([a-z][a-z-]*)"
    named = {
        (command, str(page.relative_to(_ROOT)))
        for place in ("README.md", "docs/**/*.md")
        for page in _ROOT.glob(place)
        for command in re.findall(word, page.read_text("utf-8"), re.MULTILINE)
    }
    assert len(named) > 100
    assert sorted((page, command) for command, page in named if command not in main.commands) == []


def test_every_command_of_make_that_a_page_names_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (_ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        (target, str(page.relative_to(_ROOT)))
        for place in ("*.md", "docs/**/*.md")
        for page in _ROOT.glob(place)
        for target in re.findall(r"(?:^\$ |`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert len(named) > 10
    assert sorted((page, target) for target, page in named if target not in targets) == []
