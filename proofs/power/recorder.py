"""
The recorder: notes what SQLite does to the files of one folder.

It stands between SQLite and its own way to files (the default VFS), by ctypes
on the very library that Python's `sqlite3` uses: so what is recorded is the
store as it is, and no compiler is needed.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from itertools import count
from pathlib import Path
from typing import Any

import click

from proofs.power.trace import Created, Event, FolderSynced, Removed, Synced, Truncated, Written

_OK = 0
_OPEN_CREATE = 0x4
_OPEN_WITH_FOLDER_SYNC = 0x800 | 0x4000 | 0x80000
"""Main journal, super-journal, WAL: SQLite syncs the folder with the first sync of each that it opens to create."""


class _Methods(ctypes.Structure):
    """sqlite3_io_methods."""


class _File(ctypes.Structure):
    """sqlite3_file: what SQLite shows of an open file."""

    _fields_ = (("methods", POINTER(_Methods)),)


_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)

_Methods._fields_ = (
    ("version", c_int),
    ("close", _Close),
    ("read", c_void_p),
    ("write", _Write),
    ("truncate", _Truncate),
    ("sync", _Sync),
    *((f"other_{number}", c_void_p) for number in range(13)),
)


class _Vfs(ctypes.Structure):
    """sqlite3_vfs."""


_Open = CFUNCTYPE(c_int, POINTER(_Vfs), c_void_p, c_void_p, c_int, POINTER(c_int))
_Delete = CFUNCTYPE(c_int, POINTER(_Vfs), c_void_p, c_int)

_Vfs._fields_ = (
    ("version", c_int),
    ("file_size", c_int),
    ("longest_path", c_int),
    ("next", c_void_p),
    ("name", c_char_p),
    ("data", c_void_p),
    ("open", _Open),
    ("delete", _Delete),
    *((f"other_{number}", c_void_p) for number in range(14)),
)


class RecordingError(click.ClickException):
    """This Python's SQLite cannot be recorded."""


class _Handle:
    """An open file: which contents it has, SQLite's own methods for it, whether its next sync syncs the folder too."""

    def __init__(self, file: int, methods: Any, *, syncs_folder: bool) -> None:
        self.file = file
        self.methods = methods
        self.syncs_folder = syncs_folder


class Recorder:
    """
    Gathers the events of one folder, in the order in which they happened.

    Only one store may write at a time, as those of this package do; or the order would mean nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self._folder = folder.resolve()
        self._library = _library()
        self._default: Any = self._library.sqlite3_vfs_find(None)
        self._files = count(1)
        self._by_name: dict[str, int] = {}
        self._handles: dict[int, _Handle] = {}
        # Whatever SQLite calls must live as long as it may be called. Journals have methods of their own.
        self._methods: dict[int, _Methods] = {}
        self._vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self._vfs), self._default, ctypes.sizeof(_Vfs))
        self._vfs.name = b"deeper-recorder"
        self._vfs.next = None
        self._vfs.open = _Open(self._opened)
        self._vfs.delete = _Delete(self._deleted)

    def note(self, event: Event) -> None:
        """Add an event of another kind at this moment."""
        self.events.append(event)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record all databases that are opened within the block; they must be closed within it."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        try:
            yield
        finally:
            self._library.sqlite3_vfs_register(self._default, 1)
            self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def _opened(self, _: Any, path: int | None, address: int, flags: int, flags_out: Any) -> int:
        # The path goes on as the pointer that it is: behind its end lie the parameters of a URI.
        code: int = self._default.contents.open(self._default, path, address, flags, flags_out)
        name = self._name(path)
        if code != _OK or name is None:
            return code
        if name not in self._by_name:
            self._by_name[name] = next(self._files)
            self.note(Created(self._by_name[name], name))
        syncs_folder = bool(flags & _OPEN_CREATE and flags & _OPEN_WITH_FOLDER_SYNC)
        opened = ctypes.cast(address, POINTER(_File)).contents
        methods = opened.methods.contents
        self._handles[address] = _Handle(self._by_name[name], methods, syncs_folder=syncs_folder)
        opened.methods = ctypes.pointer(self._intercepting(methods))
        return code

    def _intercepting(self, methods: Any) -> _Methods:
        address = ctypes.addressof(methods)
        if address not in self._methods:
            copy = self._methods[address] = _Methods()
            ctypes.memmove(ctypes.byref(copy), address, ctypes.sizeof(_Methods))
            copy.close = _Close(self._closed)
            copy.write = _Write(self._wrote)
            copy.truncate = _Truncate(self._truncated)
            copy.sync = _Sync(self._synced)
        return self._methods[address]

    def _closed(self, address: int) -> int:
        return int(self._handles.pop(address).methods.close(address))

    def _wrote(self, address: int, data: int, length: int, offset: int) -> int:
        handle = self._handles[address]
        code = int(handle.methods.write(address, data, length, offset))
        if code == _OK:
            self.note(Written(handle.file, offset, ctypes.string_at(data, length)))
        return code

    def _truncated(self, address: int, size: int) -> int:
        handle = self._handles[address]
        code = int(handle.methods.truncate(address, size))
        if code == _OK:
            self.note(Truncated(handle.file, size))
        return code

    def _synced(self, address: int, flags: int) -> int:
        handle = self._handles[address]
        code = int(handle.methods.sync(address, flags))
        if code == _OK:
            self.note(Synced(handle.file))
            if handle.syncs_folder:
                handle.syncs_folder = False
                self.note(FolderSynced())
        return code

    def _deleted(self, _: Any, path: int, syncs_folder: int) -> int:
        code: int = self._default.contents.delete(self._default, path, syncs_folder)
        name = self._name(path)
        if code == _OK and name is not None and self._by_name.pop(name, None) is not None:
            self.note(Removed(name))
            if syncs_folder:
                self.note(FolderSynced())
        return code

    def _name(self, path: int | None) -> str | None:
        """Return the name of a file of the store; None for a temporary one and those of other folders."""
        if path is None:
            return None
        full = Path(ctypes.string_at(path).decode())
        return full.name if full.parent.resolve() == self._folder else None


def _library() -> ctypes.CDLL:
    # A symbol is looked for in what `_sqlite3` was linked with too.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    try:
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    except AttributeError:
        raise RecordingError("this Python hides the functions of its SQLite; use one linked with libsqlite3") from None
    return library
