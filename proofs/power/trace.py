"""A trace: in order, what a store did to its files and what it had promised by then."""

from __future__ import annotations

from msgspec import Struct

from deeper_tasks.domain.ids import JobId
from deeper_tasks.domain.state import State


class Created(Struct, frozen=True):
    """A file got its name in the folder. `file` names its contents, which may outlive the name."""

    file: int
    name: str


class Written(Struct, frozen=True):
    """Bytes were handed to the system."""

    file: int
    offset: int
    data: bytes


class Truncated(Struct, frozen=True):
    """A file was cut to a size."""

    file: int
    size: int


class Synced(Struct, frozen=True):
    """All that was written to a file so far is on the disk."""

    file: int


class Removed(Struct, frozen=True):
    """A name was taken out of the folder."""

    name: str


class FolderSynced(Struct, frozen=True):
    """All names given and taken so far are on the disk."""


class Committed(Struct, frozen=True):
    """
    A transaction was committed, and not acknowledged yet. `digest` stands for all that the store then held.

    `is_durable`: no power cut may take it, nor what was committed before it.
    """

    digest: str
    is_durable: bool


class Promised(Struct, frozen=True):
    """A caller got its answer: these jobs are there, in this state for good where one is named."""

    jobs: dict[JobId, State | None]


class TakenBack(Struct, frozen=True):
    """A caller is about to retry or delete: of these jobs nothing is promised any more."""

    jobs: tuple[JobId, ...]


Event = Created | Written | Truncated | Synced | Removed | FolderSynced | Committed | Promised | TakenBack


class Trace(Struct, frozen=True, kw_only=True):
    """The actions of one store. `is_durable`: it ran with `synchronous=FULL`, so that no promise may be broken."""

    name: str
    database: str
    is_durable: bool
    events: list[Event]

    def without_syncs(self) -> Trace:
        """Return what a disk saw that ignores all syncs."""
        kept: list[Event] = [event for event in self.events if not isinstance(event, (Synced, FolderSynced))]
        return Trace(name=f"{self.name}, syncs ignored", database=self.database, is_durable=True, events=kept)
