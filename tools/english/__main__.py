"""`python -m tools.english [PLACE …]`: list the faults, then count them by folder; exit 1 if there is any."""

import sys
from pathlib import Path

from tools.english import report

paths = list(
    report.files(
        [Path(place).resolve() for place in sys.argv[1:] or map(str, map(report.ROOT.joinpath, report.PLACES))]
    )
)
found = [finding for path in paths for finding in report.findings(path)]
for finding in found:
    print(report.shown(finding))
for name, count in sorted(report.counts(found, paths).items()):
    print(f"{count:6}  {name}")
print(f"{len(found):6}  in all; 0 are allowed")
sys.exit(bool(found))
