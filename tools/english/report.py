"""The report: each fault by its file and line, and how many there are in each folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools.english import other_files, python_files, rules
from tools.english.python_files import Text
from tools.english.rules import Fault

ROOT = Path(__file__).parents[2]
PLACES = ("src", "docs", "README.md")
_DEPTH = 4
"""Folders further down than this are counted with the folder above them."""
_SHOWN = 140

_TEXTS: dict[str, Callable[[str], Iterator[Text]]] = {
    ".py": python_files.texts,
    ".md": other_files.markdown,
    ".sql": other_files.sql,
}
_NAMES: dict[str, Callable[[str], Iterator[tuple[int, Fault]]]] = {
    ".py": python_files.faulty_names,
    ".md": other_files.faulty_names,
}


class Finding(NamedTuple):
    """A fault in a file: its line, the sentence around it, the word, and the way out."""

    path: Path
    line: int
    word: str
    sentence: str
    way_out: str


def files(places: list[Path]) -> Iterator[Path]:
    """Yield the files in these places whose text is checked."""
    for place in places:
        inside = [place] if place.is_file() else sorted(place.rglob("*"))
        yield from (path for path in inside if path.suffix in _TEXTS)


def findings(path: Path) -> list[Finding]:
    """Return what is wrong in a file, in the order of its lines."""
    source = path.read_text("utf-8")
    found = [
        Finding(
            path,
            text.line + text.text.count("\n", 0, fault.offset),
            fault.word,
            _around(text.text, fault),
            fault.way_out,
        )
        for text in _TEXTS[path.suffix](source)
        for fault in rules.faults_of_text(text.text, begins=text.begins)
    ]
    if path.suffix in _NAMES:
        lines = source.split("\n")
        named = [
            Finding(path, line, fault.word, lines[line - 1].strip()[:_SHOWN], fault.way_out)
            for line, fault in _NAMES[path.suffix](source)
        ]
        found += named
    if path.suffix == ".py" and (fault_of_file := rules.fault_of_module(path.stem)):
        found.append(Finding(path, 1, fault_of_file.word, f"the module {path.stem}", fault_of_file.way_out))
    return sorted(found, key=lambda finding: finding.line)


def counts(found: list[Finding], paths: list[Path]) -> Counter[str]:
    """Return how many faults each folder has, folders without any included."""
    counted = Counter({folder(path): 0 for path in paths})
    counted.update(folder(finding.path) for finding in found)
    return counted


def folder(path: Path) -> str:
    """Return the folder by which the faults of a file are counted."""
    path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return "/".join(path.parent.parts[:_DEPTH]) if path.parent.parts else str(path)


def shown(finding: Finding) -> str:
    """Return a finding as two lines: where and what is written, and what to write instead."""
    path = finding.path.relative_to(ROOT) if finding.path.is_relative_to(ROOT) else finding.path
    return f"{path}:{finding.line}: {finding.sentence}\n    {finding.word!r}: {finding.way_out}"


def _around(text: str, fault: Fault) -> str:
    ends = [0, *(end.end() for end in re.finditer(r"[.!?]\s+|\n\s*\n", text)), len(text)]
    begin = max(end for end in ends if end <= fault.offset)
    end = min(end for end in ends if end > fault.offset)
    sentence = " ".join(text[begin:end].split())
    return sentence if len(sentence) <= _SHOWN else f"{sentence[:_SHOWN]}…"
