"""The measurements of PostgreSQL: databases, a raw loop, and the libraries that an application could take instead."""

import sys
from pathlib import Path

# The package `servers`, which starts servers for the tests, starts them here too.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
