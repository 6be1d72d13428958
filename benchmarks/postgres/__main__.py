"""The command that does an errand of a peer: `python -m benchmarks.postgres PEER ERRAND [COUNT]`."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.postgres.errands import run

if __name__ == "__main__":
    name, *errand = sys.argv[1:]
    run(import_module(f"benchmarks.postgres.{name}_errands").PEER, *errand)
