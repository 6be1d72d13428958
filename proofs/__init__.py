"""The proofs: what takes minutes to show, and is run by hand or before a release: `python -m proofs --help`."""

import sys
from pathlib import Path

# The package `servers`, which starts servers for the tests, starts them here too.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
