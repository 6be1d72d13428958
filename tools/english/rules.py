"""The rules: words and names that are not used here, each with a way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

WORDS = {
    "somebody": "name the subject: the caller, another process, the worker, the transaction",
    "someone": "name the subject: the caller, another process, the worker, the transaction",
    "anybody": "name the subject: any caller, any process, any user",
    "nobody": "name the subject: no process, no caller, no worker",
    "whoever": "name the subject: the caller that, the process that, a user who",
    "ours": "name the thing: this library's, the worker's, its own",
    "meant": "say the effect: intended for, refers to, is for",
    "told": "name the act: logged, reported, announced, notified, asked to",
}
"""Words that are not used anywhere, identifiers included."""

PHRASES = {"for ever": "forever, or for as long as what"}

STARTS = {
    "who": "begin with the subject: a caller that, the process that",
    "what": "begin with the subject: the rows that, the result of",
    "whoever": "begin with the subject",
    "one that": "begin with the noun: a store that, a job that",
}
"""Words with which no sentence, heading, list item, docstring or comment begins."""

MODULES = {
    "aside": "run_in_thread",
    "asking": "confirm",
    "crowd": "concurrency",
    "door": "input_checks",
    "drawing": "render",
    "ending": "shutdown",
    "frontier": "claim_floor",
    "guard": "connection_guard",
    "leash": "parent_watch",
    "likeness": "failure_message",
    "look": "reads",
    "news": "settlement_events",
    "operator": "control",
    "pace": "prefetch",
    "planner": "recurring",
    "post": "worker_slot",
    "pulse": "loop_lag",
    "scene": "builders, or store_snapshot",
    "stage": "kit_session",
    "turnstile": "write_lock",
}
"""Former names of modules, by what they are called now."""

CLASSES = {
    "Operator": "JobControl",
    "Pace": "Prefetch",
    "Place": "Position",
    "Planner": "RecurringTasks",
    "Post": "WorkerSlot",
    "Stage": "KitSession",
    "Walk": "IndexScan",
    "Way": "IndexScan",
}
"""Former names of classes, with or without an underscore before them."""

IDENTIFIERS = {
    "aside": "run_in_thread",
    "asking": "confirm",
    "drawing": "render",
    "ending": "shutdown",
    "likeness": "failure_message",
    "means": "matches",
    "pulse": "loop_lag",
    "scene": "builders, or store_snapshot",
}
"""Former names of functions, arguments and variables, as whole names."""

PARTS = {
    "crowd": "concurrency",
    "door": "input_checks",
    "errand": "operation",
    "errands": "operations",
    "frontier": "claim_floor",
    "leash": "parent_watch",
    "turnstile": "write_lock",
}
"""Words that are no part of any identifier, beside those of `WORDS`."""

_ANYWHERE = re.compile(
    rf"(?<![A-Za-z])({'|'.join([*WORDS, *PHRASES])})(?![A-Za-z])".replace(" ", r"\s+"), re.IGNORECASE
)
_START = re.compile(rf"({'|'.join(sorted(STARTS, key=len, reverse=True))})\b".replace(" ", r"\s+"), re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?:[.!?][\"'`)*_”]*\s+|\n\s*\n\s*)")
_OPENING = re.compile(r"[\"'`(*_\[“]*")
_NAME_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class Fault(NamedTuple):
    """A forbidden word in a text: where in it, the word, and the way out."""

    offset: int
    word: str
    way_out: str


def faults_of_text(text: str, *, begins: bool = True) -> Iterator[Fault]:
    """
    Yield the forbidden words of a text, and the forbidden first words of its sentences.

    begins: The text is the beginning of a sentence, so that its first word counts in either case. The first words of
        later sentences count only with a capital.
    """
    for found in _ANYWHERE.finditer(text):
        word = " ".join(found[1].lower().split())
        yield Fault(found.start(1), found[1], WORDS.get(word) or PHRASES[word])
    starts = [0] if begins else []
    starts += [end.end() for end in _SENTENCE_END.finditer(text)]
    for start in starts:
        first = _OPENING.match(text, start).end()  # type: ignore[union-attr]  # it matches nothing, too
        found_start = _START.match(text, first)
        if found_start and (start == 0 or found_start[1][0].isupper()):
            word = " ".join(found_start[1].lower().split())
            if word not in WORDS:
                yield Fault(first, found_start[1], STARTS[word])


def fault_of_identifier(name: str) -> Fault | None:
    """Return what is wrong with the name of a function, an argument or a variable."""
    if name in IDENTIFIERS:
        return Fault(0, name, f"{IDENTIFIERS[name]}, or the field's word")
    for part in _NAME_PARTS.findall(name):
        if way_out := WORDS.get(part.lower()) or PARTS.get(part.lower()):
            return Fault(0, name, way_out)
    return None


def fault_of_class(name: str) -> Fault | None:
    """Return what is wrong with the name of a class."""
    if way_out := CLASSES.get(name.lstrip("_")):
        return Fault(0, name, way_out)
    return fault_of_identifier(name)


def fault_of_module(name: str) -> Fault | None:
    """Return what is wrong with the name of a module, without its `.py`."""
    if way_out := MODULES.get(name):
        return Fault(0, name, way_out)
    return fault_of_identifier(name)
