"""The outage: thousands of jobs on PostgreSQL, while the server, its sessions, the network and workers fail."""

import sys
from pathlib import Path

# The package `servers`, which starts servers for the tests, starts them here too.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
