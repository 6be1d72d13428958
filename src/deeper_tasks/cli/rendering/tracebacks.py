"""The tracebacks of jobs, cut to the frames of the application's code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import deeper_tasks

_HEADER = re.compile(r"[ |+-]*(Exception Group )?Traceback \(most recent call last\):$")
_FRAME = re.compile(r'(?P<margin>[ |]*)  File "(?P<path>.+)", line \d+, in ')
_REPEATED = "[Previous line repeated "
_PACKAGE = Path(deeper_tasks.__file__).parent
_EXECUTORS = re.compile(r"[\\/](asyncio|concurrent[\\/]futures|threading\.py)([\\/]|$)")
"""Modules of the standard library through which this library calls a job's code."""


def own_frames(text: str) -> str:
    """
    Return a traceback in Python's format, without the frames of deeper_tasks and of the modules through which it calls.

    If an exception has no other frames, only its last lines remain.
    """
    kept: list[str] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if not _HEADER.match(line):
            kept.append(line)
            continue
        frames = _own(_take_frames(lines))
        if frames or "Exception Group" in line:
            kept += [line, *(each for frame in frames for each in frame)]
    return "\n".join(kept)


def _take_frames(lines: list[str]) -> list[list[str]]:
    """Remove the frames at the start of `lines` and return them, each with the lines of source below it."""
    frames: list[list[str]] = []
    margin = ""
    while lines:
        start = _FRAME.match(lines[0])
        if start is not None:
            margin = start["margin"]
            frames.append([lines.pop(0)])
        elif frames and lines[0].startswith((f"{margin}    ", f"{margin}  {_REPEATED}")):
            frames[-1].append(lines.pop(0))
        else:
            break
    return frames


def _own(frames: list[list[str]]) -> list[list[str]]:
    kept: list[list[str]] = []
    is_inside = True
    for frame in frames:
        start = _FRAME.match(frame[0])
        path = "" if start is None else start["path"]
        is_inside = _is_of_library(path) or (is_inside and _EXECUTORS.search(path) is not None)
        if not is_inside:
            kept.append(frame)
    return kept


@cache
def _is_of_library(path: str) -> bool:
    """Whether a file belongs to this package, in whatever folder the worker has it installed."""
    _, is_below, below = path.replace("\\", "/").rpartition("/deeper_tasks/")
    return bool(is_below) and (_PACKAGE / below).is_file()
