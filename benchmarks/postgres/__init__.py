"""What PostgreSQL is measured with: databases, a raw loop, and the libraries that others would take."""

import sys
from pathlib import Path

# The package `servers`, which starts servers for the tests, starts them here too.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
