"""A situation: what is played, what that needs of the machine, and the play."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from proofs.production.needs import Need
from proofs.production.site import Site


class Situation(Struct, frozen=True, kw_only=True):
    """
    One situation. `plays` is a sentence: what is done, and what has to hold.

    `play` gets a new site and returns if it held. It raises AssertionError with what it saw instead, or
    `Missing` when it finds in its course that the machine lacks something.
    """

    name: str
    plays: str
    needs: tuple[Need, ...] = ()
    play: Callable[[Site], None]
