"""A finding: the result of one check of the set-up, and how to mend what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from deeper_tasks.domain.view import View

OnCheck = Callable[[str], None]
"""Called with the name of each check before it begins."""


class Severity(StrEnum):
    """The severity of a finding: nothing is wrong; something is or will be wrong; jobs do not run or are in danger."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(View, frozen=True, kw_only=True):
    """
    The result of one check.

    `check` names the check in one word or two. `remedy` is a sentence on how to mend the fault; a good finding has
    none. `subject` is the name of a queue or the id of a job, where a check can find the same of several.
    """

    check: str
    severity: Severity
    message: str
    remedy: str | None = None
    subject: str | None = None


def fine(check: str, message: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(check=check, severity=Severity.OK, message=message)


def warning(check: str, message: str, remedy: str, *, subject: str | None = None) -> Finding:
    """Return a finding that something is wrong, or will be."""
    return Finding(check=check, severity=Severity.WARNING, message=message, remedy=remedy, subject=subject)


def fault(check: str, message: str, remedy: str, *, subject: str | None = None) -> Finding:
    """Return a finding that jobs cannot run, or are in danger."""
    return Finding(check=check, severity=Severity.ERROR, message=message, remedy=remedy, subject=subject)


def say_nothing(_: str) -> None:
    """Show no progress: an `OnCheck`."""
