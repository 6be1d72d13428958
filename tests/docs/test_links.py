"""Links between the pages of the docs lead somewhere."""

import re
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")
_PAGES = [*sorted(_ROOT.glob("*.md")), *sorted((_ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_links_of_a_page_lead_to_a_page_and_its_heading(page):
    for target, heading in _LINK.findall(page.read_text("utf-8")):
        found = page if not target else (page.parent / target).resolve()
        assert found.exists(), f"{target} is not there"
        if heading:
            assert heading in _anchors(found), f"{target or page.name} has no heading {heading!r}"


def _anchors(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_can_be_reached_from_the_index():
    seen, ahead = set(), [_ROOT / "docs" / "index.md"]
    while ahead:
        page = ahead.pop()
        if page.suffix == ".md" and page not in seen:
            seen.add(page)
            links = _LINK.findall(page.read_text("utf-8"))
            ahead += [(page.parent / target).resolve() for target, _ in links if target]
    pages = {page for page in (_ROOT / "docs").rglob("*.md") if "decisions" not in page.parts}
    assert sorted(pages - seen) == []


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_files_of_this_repository_that_a_page_names_are_there(page):
    text = page.read_text("utf-8")
    named = re.findall(r"`((?:tests|tools|proofs|benchmarks|requirements)/[\w./-]+)`", text)
    assert [name for name in named if not (_ROOT / name).exists()] == []
    modules = re.findall(r"`((?:\w+/)+\w+\.(?:py|sql))`", text)
    assert [name for name in modules if not any(path.endswith(f"/{name}") for path in _files())] == []


@cache
def _files():
    places = ("src", "tests", "proofs", "benchmarks", "demo", "docs", "examples", "tools")
    return [f"/{path.relative_to(_ROOT)}" for place in places for path in (_ROOT / place).rglob("*.*")]
