"""The disk: keeps what was synced, and of the rest, when the power is cut, whatever chance leaves."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from random import Random

from proofs.power.trace import Created, Event, FolderSynced, Removed, Synced, Truncated, Written

_SECTOR = 512


class Mood(Enum):
    """How a disk behaves at the cut."""

    LOSES_ALL = "nothing unsynced is kept"
    KEEPS_ALL = "everything is kept, as when only the process dies"
    IN_ORDER = "the first writes are kept, the next is torn, the rest is lost"
    MOSTLY_KEEPS = "few writes, anywhere, are lost or torn"
    ANY = "each write, in any order, is kept, lost or torn"


_WEIGHTS = {Mood.LOSES_ALL: 1, Mood.KEEPS_ALL: 1, Mood.IN_ORDER: 3, Mood.MOSTLY_KEEPS: 3, Mood.ANY: 4}


class _Contents:
    """The contents of one file: what is on the disk, and the writes that are not known to be."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.pending: list[Written | Truncated] = []

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.synced, change)
        self.pending.clear()


class Disk:
    """
    One folder on a disk with a cache that a power cut empties.

    As SQLite assumes of all disks today ("powersafe overwrite"), bytes outside
    those being written keep their value; those inside may be old, new, mixed by
    sectors or, where the file grew, zero.
    """

    def __init__(self) -> None:
        self._contents: dict[int, _Contents] = {}
        self._names: dict[str, int] = {}
        self._pending: list[Created | Removed] = []

    @property
    def has_pending(self) -> bool:
        """Whether a cut could lose anything."""
        return bool(self._pending) or any(each.pending for each in self._contents.values())

    def apply(self, event: Event) -> None:
        """Take in what a store did; promises are no matter of a disk."""
        match event:
            case Created():
                self._contents[event.file] = _Contents()
                self._pending.append(event)
            case Removed():
                self._pending.append(event)
            case Written() | Truncated():
                self._contents[event.file].pending.append(event)
            case Synced():
                self._contents[event.file].sync()
            case FolderSynced():
                _rename(self._names, self._pending)
                self._pending.clear()

    def cut(self, random: Random) -> dict[str, bytes]:
        """Return the files, by name, that are found after a power cut at this moment; the disk itself goes on."""
        [mood] = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        names = dict(self._names)
        _rename(names, [change for change in self._pending if _is_kept(mood, random)])
        return {name: self._left_of(self._contents[file], mood, random) for name, file in names.items()}

    def _left_of(self, contents: _Contents, mood: Mood, random: Random) -> bytes:
        found = bytearray(contents.synced)
        if mood is Mood.IN_ORDER:
            end = random.randint(0, len(contents.pending))
            for change in contents.pending[:end]:
                _apply(found, change)
            for change in contents.pending[end : end + 1]:
                _tear(found, change, random)
            return bytes(found)
        for change in contents.pending:
            if _is_kept(mood, random):
                _apply(found, change)
            elif mood is not Mood.LOSES_ALL and random.random() < 0.5:
                _tear(found, change, random)
        return bytes(found)


def _is_kept(mood: Mood, random: Random) -> bool:
    match mood:
        case Mood.LOSES_ALL:
            return False
        case Mood.KEEPS_ALL:
            return True
        case Mood.MOSTLY_KEEPS:
            return random.random() < 0.9
        case _:
            return random.random() < 0.5


def _rename(names: dict[str, int], changes: list[Created | Removed]) -> None:
    for change in changes:
        if isinstance(change, Created):
            names[change.name] = change.file
        else:
            names.pop(change.name, None)


def _apply(contents: bytearray, change: Written | Truncated) -> None:
    if isinstance(change, Truncated):
        del contents[change.size :]
        _grow(contents, change.size)
        return
    _grow(contents, change.offset)
    contents[change.offset : change.offset + len(change.data)] = change.data


def _tear(contents: bytearray, change: Written | Truncated, random: Random) -> None:
    """Apply a write in part: a prefix, some of its sectors, or only the growth of the file."""
    if isinstance(change, Truncated):
        return
    sectors = list(_sectors(change))
    how = random.choice(("prefix", "sectors", "growth"))
    if how == "growth" or random.random() < 0.5:
        _grow(contents, change.offset + len(change.data))
    if how == "prefix":
        sectors = sectors[: random.randrange(len(sectors))]
    for sector in sectors:
        if how == "prefix" or (how == "sectors" and random.random() < 0.5):
            _apply(contents, sector)


def _sectors(change: Written) -> Iterator[Written]:
    start = 0
    while start < len(change.data):
        end = start + _SECTOR - (change.offset + start) % _SECTOR
        yield Written(change.file, change.offset + start, change.data[start:end])
        start = end


def _grow(contents: bytearray, size: int) -> None:
    contents.extend(bytes(max(0, size - len(contents))))
