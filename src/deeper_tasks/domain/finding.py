"""A finding: what a check of the set-up found, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from deeper_tasks.domain.view import View

OnCheck = Callable[[str], None]
"""Called with the name of each check before it begins."""


class Severity(StrEnum):
    """How bad a finding is: nothing is wrong; something may be, or will be; work stands still or is in danger."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(View, frozen=True, kw_only=True):
    """
    What one check found.

    `check` says what was looked at, in one word or two. `remedy` is a sentence
    on how to mend it; only what is wrong has one. `subject` is what it is about, where a check
    can find the same of several: the name of a queue, the id of a job.
    """

    check: str
    severity: Severity
    message: str
    remedy: str | None = None
    subject: str | None = None


def fine(check: str, message: str) -> Finding:
    """Return a finding of nothing wrong."""
    return Finding(check=check, severity=Severity.OK, message=message)


def warning(check: str, message: str, remedy: str, *, subject: str | None = None) -> Finding:
    """Return a finding of something that may be wrong, or will be."""
    return Finding(check=check, severity=Severity.WARNING, message=message, remedy=remedy, subject=subject)


def fault(check: str, message: str, remedy: str, *, subject: str | None = None) -> Finding:
    """Return a finding of something that keeps jobs from running, or endangers them."""
    return Finding(check=check, severity=Severity.ERROR, message=message, remedy=remedy, subject=subject)


def say_nothing(_: str) -> None:
    """Show no progress: an `OnCheck`."""
