"""The situations: the list of all that are played, in this order. A new one is a module beside, and a line here."""

from __future__ import annotations

from proofs.production import lock_files, process_1
from proofs.production.situation import Situation

SITUATIONS: tuple[Situation, ...] = (lock_files.SITUATION, process_1.SITUATION)
