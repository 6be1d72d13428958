"""The names of queues: the characters that they may have."""

from __future__ import annotations

import re

_NAME = re.compile(r"[^\s,:=*]{1,128}")

QUEUE_NAME_RULE = "1 to 128 printable characters, without spaces, commas, colons, '=' and '*'"
"""The rule of `is_queue_name` in words, for messages."""


def is_queue_name(text: str) -> bool:
    """Return whether a queue may have this name. The excluded characters have a meaning in lists of queues."""
    return _NAME.fullmatch(text) is not None and text.isprintable()
