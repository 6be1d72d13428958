"""The table of "How the code is built" names files that exist."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SECTION = (
    (_ROOT / "docs/explanation/architecture.md")
    .read_text("utf-8")
    .partition("## Where do I change what?")[2]
    .partition("\n## ")[0]
)
_ROWS = [row for row in re.findall(r"^\| (?!to change)(.+) \|$", _SECTION, re.MULTILINE) if not row.startswith("-")]


@pytest.mark.parametrize("row", _ROWS)
def test_a_change_has_a_place_that_exists(row):
    _, _, place = row.partition(" | ")
    paths = [word for word in re.findall(r"`([^`]+)`", place) if "/" in word or word.endswith(".py")]

    assert paths
    assert [path for path in paths if not _exists(path)] == []


def _exists(path):
    return (_ROOT / "src" / "deeper_tasks" / path).exists() or (_ROOT / path).exists()
