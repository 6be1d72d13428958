"""The streams: answers come through whatever stdout and stderr are, or their failure is told in a line."""

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
"""What is written for signs of our own in an encoding that has none of them."""
_NO_ASCII = re.compile(r"[^\x00-\x7f]+")
_BROKEN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


class ClosedOutput(io.TextIOBase):
    """Stands for a stdout that was closed before the program began: all that is written to it fails."""

    def write(self, _text: str, /) -> int:
        """Raise an OSError, as a write to the descriptor would."""
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def prepare_streams() -> None:
    """Let texts be written in every encoding, escaped where need be; a closed stdout is noticed, and stdin empty."""
    codecs.register_error("deeper_tasks.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="deeper_tasks.plain")
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it lasts as long as the process
    if sys.stdout is None:
        sys.stdout = ClosedOutput()


def allow_closed_output() -> None:
    """Let what is printed to a closed stdout be dropped: of a command that is not run for its answer."""
    if isinstance(sys.stdout, ClosedOutput):
        sys.stdout = None


def is_of_output(error: OSError) -> bool:
    """Whether an error says that an output cannot be written: files that are opened by name have theirs."""
    return error.errno in _BROKEN and error.filename is None


def drop(stream: TextIO) -> None:
    """Forget what is still buffered: it would be written, in vain and with a complaint, at the interpreter's end."""
    with suppress(OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def as_encodable(line: str, stream: TextIO | None) -> str:
    r"""Return a line of JSON as it can be written to a stream: with `\u` for all but ASCII where not all can be."""
    try:
        line.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return _NO_ASCII.sub(lambda signs: json.dumps(signs[0])[1:-1], line)
    return line


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    # In JSON's way: lines of a log may be JSON, and stay so.
    return "".join(_STAND_INS.get(sign) or json.dumps(sign)[1:-1] for sign in signs), error.end
