"""The streams: stdout and stderr, prepared so that any text can be written to them or its failure be reported."""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

_STAND_INS = {"…": "...", "→": "->", "─": "-", "━": "-", "µ": "u", "�": "?"}
"""Replacements for this command's own characters in an encoding that lacks them."""
_NO_ASCII = re.compile(r"[^\x00-\x7f]+")
_BROKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class ClosedOutput(io.TextIOBase):
    """A stdout that was closed before the program began: each write to it fails."""

    def write(self, _text: str, /) -> int:
        """Raise an OSError, as a write to the descriptor would."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def prepare_streams() -> None:
    """
    Prepare stdin, stdout and stderr for the command.

    Characters that the encoding of stdout or stderr lacks are escaped. A write to a closed stdout fails. A closed stdin
    is replaced by an empty one.
    """
    codecs.register_error("deeper_tasks.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="deeper_tasks.plain")
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it lasts as long as the process
    if sys.stdout is None:
        sys.stdout = ClosedOutput()


def allow_closed_output() -> None:
    """Drop text for a closed stdout instead of failing: for commands that are not run for their answer."""
    if isinstance(sys.stdout, ClosedOutput):
        sys.stdout = None


def is_of_output(error: OSError) -> bool:
    """Whether an error is about stdout or stderr: errors of files that were opened by name carry that name."""
    return error.errno in _BROKEN and error.filename is None


def drop(stream: TextIO) -> None:
    """Discard buffered text: the interpreter would try to write it at its end, fail, and print an error."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def as_encodable(line: str, stream: TextIO | None) -> str:
    r"""Return a line of JSON in a form that the stream can encode: with `\u` escapes if it lacks a character."""
    try:
        line.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return _NO_ASCII.sub(lambda signs: json.dumps(signs[0])[1:-1], line)
    return line


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    # Escaped as in JSON, so that log lines that are JSON stay valid.
    return "".join(_STAND_INS.get(sign) or json.dumps(sign)[1:-1] for sign in signs), error.end
