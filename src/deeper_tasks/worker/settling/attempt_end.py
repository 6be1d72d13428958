"""The end of an attempt, as the runner hands it over: to be written, stored already, or perhaps stored."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from deeper_tasks.domain.settlement import Settlement
from deeper_tasks.domain.state import State


class Stored(Struct, frozen=True):
    """
    An end that the job's transaction has written: only its event is left to emit.

    `state` is the state that followed; None means that the store refused the settlement.
    """

    settlement: Settlement
    state: State | None


class PerhapsStored(Struct, frozen=True):
    """
    A settlement to write for an attempt whose commit got no answer.

    If the commit went through, the store refuses this settlement, or answers it with the state that is there already.
    """

    settlement: Settlement


AttemptEnd: TypeAlias = Settlement | Stored | PerhapsStored
