"""The gaps between enqueues while latency is measured."""

from __future__ import annotations

import random
from collections.abc import Iterator

_SHORTEST, _LONGEST = 0.002, 0.02
_SEED = 7


def gaps(count: int) -> Iterator[float]:
    """Yield pauses in seconds: random, and the same for every competitor."""
    chance = random.Random(_SEED)
    for _ in range(count):
        yield chance.uniform(_SHORTEST, _LONGEST)
