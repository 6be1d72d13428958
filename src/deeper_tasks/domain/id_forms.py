"""Id forms: how the job ids of a store are read, and cut short for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from deeper_tasks.domain import short_ids
from deeper_tasks.domain.ids import JobId, parse_uuid
from deeper_tasks.errors import InvalidOptionError

LONGEST_ID = 64
"""The number of characters that a job's id has at most."""


class IdForm(Protocol):
    """The form of a store's job ids. Only the store and its form know what an id looks like."""

    @property
    def description(self) -> str:
        """The form in words, as a clause that ends an error message, such as `ids are UUIDs`."""

    @property
    def short_description(self) -> str:
        """The form in words where a short id may be given too."""

    @property
    def rounds(self) -> tuple[Iterable[int], ...]:
        """The lengths to which an id may be cut, in the rounds in which they are tried. Empty: an id is never cut."""

    def parse(self, given: object) -> JobId | None:
        """Return a given id as the store writes it; None if no job of the store can have it."""

    def parse_short(self, text: str) -> str | None:
        """
        Return the beginning of an id as the store writes it; None if `text` is none.

        Raises:
            InvalidOptionError: it is the beginning of an id, and too short to stand for one.
        """

    def cut(self, job_id: JobId, length: int) -> str:
        """Return the beginning of an id of one of the lengths in `rounds`."""


class UuidForm:
    """The form of a store whose job ids are request ids: UUIDs in the order of time."""

    description = "ids are UUIDs"
    short_description = f"ids are UUIDs, or {short_ids.FEWEST_DIGITS} and more of their digits"
    rounds: tuple[Iterable[int], ...] = ((short_ids.FEWEST_DIGITS,), range(short_ids.FEWEST_DIGITS + 1, 25))
    """
    The numbers of digits.

    Jobs of the same millisecond differ by 16 digits, those of recurring tasks that are due at the same time by
    a few more.
    """

    def parse(self, given: object) -> JobId | None:
        """Return a UUID in its canonical form, also one in capitals or without hyphens."""
        return parse_uuid(given)

    def parse_short(self, text: str) -> str | None:
        """Return 13 or more digits with the hyphens of the canonical form."""
        if short_ids.is_too_short(text):
            digits = len(text.strip().replace("-", ""))
            has = f"{digits} digit{'' if digits == 1 else 's'}{' without hyphens' if '-' in text else ''}"
            raise InvalidOptionError(
                f"the id {text!r} is too short: it has {has}; give {short_ids.FEWEST_DIGITS} of them, or more"
            )
        return short_ids.parse_short_id(text)

    def cut(self, job_id: JobId, length: int) -> str:
        """Return the first digits of an id, with hyphens."""
        return short_ids.cut(job_id, length)


class WholeForm:
    """The form of a store whose ids people give whole, such as numbers."""

    description = short_description = f"ids have 1 to {LONGEST_ID} printable ASCII characters"
    rounds: tuple[Iterable[int], ...] = ()

    def parse(self, given: object) -> JobId | None:
        """Return the text as it is."""
        text = str(given)
        return JobId(text) if 0 < len(text) <= LONGEST_ID and text.isascii() and text.isprintable() else None

    def parse_short(self, text: str) -> str | None:  # noqa: ARG002 - none is short
        """Return None: there are no short ids."""
        return None

    def cut(self, job_id: JobId, length: int) -> str:  # noqa: ARG002 - none is cut
        """Return the whole id."""
        return job_id


UUIDS = UuidForm()
WHOLE_IDS = WholeForm()
