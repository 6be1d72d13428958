"""The names of queues: which characters they may have."""

from __future__ import annotations

import re

_NAME = re.compile(r"[^\s,:=*]{1,128}")

QUEUE_NAME_RULE = "1 to 128 printable characters, without spaces, commas, colons, '=' and '*'"
"""What `is_queue_name` asks for, for messages."""


def is_queue_name(text: str) -> bool:
    """Return whether a queue may have this name. The characters left out are those of lists and patterns of queues."""
    return _NAME.fullmatch(text) is not None and text.isprintable()
