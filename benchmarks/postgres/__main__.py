"""The command that does an operation of a peer: `python -m benchmarks.postgres PEER ERRAND [COUNT]`."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.postgres.operations import run

if __name__ == "__main__":
    name, *operation = sys.argv[1:]
    run(import_module(f"benchmarks.postgres.{name}_operations").PEER, *operation)
