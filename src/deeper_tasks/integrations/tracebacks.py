"""Tracebacks: an exception as text, also one that Python cannot show."""

from __future__ import annotations

import traceback

from deeper_tasks.domain.text import class_name, searchable

_MOST_WORDS = 64_000


def format_traceback(error: BaseException) -> str:
    """
    Return an exception as Python shows it. Never raises.

    Of one that cannot be shown whole, what is readable remains: where it was raised, and its words.
    """
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as fault:  # noqa: BLE001 - its notes, its cause or its source may be anything
        last = f"{class_name(error)}: {words_of(error)}"
        return f"{_places(error)}{last}\n(the rest cannot be shown: {class_name(fault)}: {words_of(fault)})\n"


def words_of(error: BaseException) -> str:
    """Return what an exception says, at most 64,000 characters, with the secrets that are in it. Never raises."""
    return searchable(error, most=_MOST_WORDS)


def _places(error: BaseException) -> str:
    try:
        return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)])
    except BaseException:  # noqa: BLE001 - the same
        return ""
