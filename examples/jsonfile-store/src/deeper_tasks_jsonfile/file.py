"""The file: how the document is read and replaced, by one process and thread at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from deeper_tasks.errors import BackendUnavailableError, SchemaError
from deeper_tasks_jsonfile.document import VERSION, Document
from deeper_tasks_jsonfile.salvage import salvage

_decoder = msgspec.json.Decoder(Document)


class DocumentFile:
    """
    The JSON file; beside it the lock file and, while it is replaced, its successor.

    The document that was read is kept as long as the file stays the same. Each write makes a
    new file, and the one that was read is held open, so that no other can get
    its inode number: whether it stayed the same is a question of one `stat`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._lock_path = self._path.with_name(f"{self._path.name}-lock")
        self._next_path = self._path.with_name(f"{self._path.name}-next")
        self._held: int | None = None
        self._text = b""
        self._document: Document | None = None

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self._path

    @contextmanager
    def reading(self) -> Iterator[Document]:
        """
        Give the document, to look at.

        Raises:
            BackendUnavailableError: the file is not there, or cannot be used.
            SchemaError: it is not a file of this store, or newer than this code.
        """
        with self._locked():
            yield self._read()

    @contextmanager
    def changing(self) -> Iterator[Document]:
        """
        Give the document, to change; if it was, it is written at the end of the context.

        An error in the context changes nothing: the half-changed document is
        forgotten, and the next caller reads the file again.
        """
        with self._locked():
            document, self._document = self._read(), None
            yield document
            text = msgspec.json.encode(document)
            if text != self._text:
                self._write(text)
            self._document = document

    def make(self) -> bool:
        """Write an empty document, unless there is one; returns whether it was written."""
        with self._locked(makes_it=True):
            is_new = not self._path.exists()
            if is_new:
                self._write(msgspec.json.encode(Document(version=VERSION)))
            return is_new

    def close(self) -> None:
        """Let go of what was read, when the call under way has ended."""
        with suppress(BackendUnavailableError), self._locked():
            self._forget()

    @contextmanager
    def _locked(self, *, makes_it: bool = False) -> Iterator[None]:
        """
        Keep all other processes out, and threads too: each call opens the lock file for itself.

        The lock is undone by name. Closing alone would leave it with a child forked meanwhile.
        """
        try:
            if not makes_it:
                self._path.stat()  # so a mistyped name leaves no lock file behind
            with open(self._lock_path, "ab", opener=_open_no_link) as lock:
                self._liken(lock.fileno())
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    yield
                finally:
                    fcntl.flock(lock, fcntl.LOCK_UN)
        except OSError as error:
            raise BackendUnavailableError(f"the file {str(self._path)!r} cannot be used: {error}") from error

    def _liken(self, descriptor: int) -> None:
        """Give a file beside the document its owner and mode, as far as this user may: root locks no other user out."""
        with suppress(OSError):
            wanted, found = self._path.stat(), os.fstat(descriptor)
            if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
                os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
            if wanted.st_mode != found.st_mode:
                os.fchmod(descriptor, stat.S_IMODE(wanted.st_mode))

    def _read(self) -> Document:
        if self._held is None or self._document is None or not self._is_same(self._held):
            self._forget()
            self._held = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            with open(self._held, "rb", closefd=False) as file:
                self._text = file.read()
            self._document = self._decoded(self._text)
        return self._document

    def _write(self, text: bytes) -> None:
        """Put a new file into the old one's place: at any moment, a power cut's too, there is one of them, whole."""
        self._forget()
        self._held = _open_no_link(self._next_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        with open(self._held, "wb", closefd=False) as file:
            file.write(text)
        self._liken(self._held)
        os.fsync(self._held)
        self._next_path.rename(self._path)
        _sync_folder(self._path.parent)
        self._text = text

    def _forget(self) -> None:
        held, self._held, self._document = self._held, None, None
        if held is not None:
            os.close(held)

    def _is_same(self, held: int) -> bool:
        return os.path.samestat(os.fstat(held), self._path.stat())

    def _decoded(self, text: bytes) -> Document:
        try:
            document = _read(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise SchemaError(f"{str(self._path)!r} is no file of this store: {error}") from error
        if document.version > VERSION:
            raise SchemaError(
                f"{str(self._path)!r} is of version {document.version}, newer than this code, which knows {VERSION}"
            )
        return document


def _read(text: bytes) -> Document:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # A part of it is damaged. Whatever is JSON can be read part by part.
        return salvage(text)


def _open_no_link(path: str | Path, flags: int) -> int:
    """Open a file whose owner is about to be changed: not one that a link of another user leads to."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
