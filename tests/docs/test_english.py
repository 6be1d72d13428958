"""The count of words and names that the project's plain English leaves out."""

from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Return the words found in a file of this name and text, each with its line."""
    monkeypatch.syspath_prepend(str(_ROOT))
    from tools.english import report

    def found(name, text):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return [(finding.line, finding.word) for finding in report.findings(path)]

    return found


@pytest.mark.parametrize("word", ["somebody", "Nobody", "someone", "anybody", "whoever", "ours", "meant", "told"])
def test_a_word_is_found_anywhere_in_a_docstring(found, word):
    assert found("jobs.py", f'"""Return it.\n\nIt is {word} so."""\n') == [(3, word)]


def test_a_phrase_is_found_across_the_end_of_a_line(found):
    assert found("jobs.py", "# It waits for\n# ever.\n") == [(1, "for\never")]


@pytest.mark.parametrize("start", ["Who", "What", "One that"])
def test_a_sentence_may_not_begin_so(found, start):
    assert found("page.md", f"It is so. {start} waits gets it.\n") == [(1, start)]
    assert found("page.md", f"{start} waits\ngets it.\n") == [(1, start)]
    assert found("page.md", f"- {start} waits\n") == [(1, start)]
    assert found("page.md", f"# {start} waits\n") == [(1, start)]
    assert found("jobs.py", f'"""{start} waits."""\n') == [(1, start)]
    assert found("jobs.py", f"a = 1  # {start.lower()} waits\n") == [(1, start.lower())]
    assert found("jobs.py", f'raise ValueError(f"{start} waits {{a}}")\n') == [(1, start)]
    assert found("0001.sql", f"-- {start} waits\nSELECT 1;\n") == [(1, start)]


def test_the_same_word_within_a_sentence_is_allowed(found):
    assert found("jobs.py", '"""Return what the job returned, and who waits."""\n') == []
    assert found("page.md", "It says\nwhat it does.\n") == []


def test_a_heading_that_asks_may_begin_with_what(found):
    assert found("page.md", "## What do I see?\n") == []


def test_blocks_of_a_page_are_read_with_their_comments(found):
    assert found("page.md", "```console\n$ deeper jobs  # what waits\njobs told\n```\n") == [(2, "what"), (3, "told")]


def test_messages_are_read_across_their_values(found):
    assert found("jobs.py", 'log.info("job %s", id)\nlog.info(f"{name} was " f"told so")\n') == [(2, "told")]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def is_told(): ...", "is_told"),
        ("def means(): ...", "means"),
        ("def put(*, ours): ...", "ours"),
        ("self._told = 1", "_told"),
        ("LOCK_MEANT = 1", "LOCK_MEANT"),
        ("class Walk: ...", "Walk"),
        ("class _Place: ...", "_Place"),
        ("import time as aside", "aside"),
    ],
)
def test_a_name_is_found_where_it_is_defined(found, source, name):
    assert found("jobs.py", f"{source}\n") == [(1, name)]


def test_names_of_other_libraries_and_longer_words_are_allowed(found):
    assert found("jobs.py", "from operator import itemgetter\nhours = itemgetter(0)\nnextdoor.told()\n") == []


def test_a_former_name_of_a_module_is_found_as_a_file_and_on_a_page(found):
    assert found("turnstile.py", "") == [(1, "turnstile")]
    assert found("page.md", "| a task | `manager/planner.py` |\n") == [(1, "planner")]


def test_each_finding_has_a_way_out_and_is_counted_by_its_folder(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(_ROOT))
    from tools.english import report

    monkeypatch.setattr(report, "ROOT", tmp_path)
    for name in ("src/jobs/a.py", "src/jobs/b.py", "src/clean.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if name == "src/clean.py" else "# The caller was told.\n", "utf-8")
    paths = list(report.files([tmp_path / "src"]))
    findings = [finding for path in paths for finding in report.findings(path)]
    assert report.counts(findings, paths) == {"src": 0, "src/jobs": 2}
    assert report.shown(findings[0]).startswith("src/jobs/a.py:1: The caller was told.\n    'told': name the act")
