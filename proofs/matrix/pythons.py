"""The rows of CPython: each in a virtual environment of its own, made from an interpreter of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

from proofs.matrix.row import FOLDER, ROOT, MissingError, Row, Setting

VERSIONS = ("3.11", "3.12", "3.13")


def python_rows() -> list[Row]:
    """Return one row a version, each with all tests."""
    return [Row(name=f"python-{each}", tests=("tests",), prepare=partial(_prepare, each)) for each in VERSIONS]


def _prepare(version: str) -> Setting:
    environment = FOLDER / f"python-{version}"
    subprocess.run(
        ["make", "--quiet", "install", f"VENV={environment}", f"PYTHON={_interpreter(version)}"], cwd=ROOT, check=True
    )
    return Setting(python=environment / "bin" / "python")


def _interpreter(version: str) -> Path:
    """Return the interpreter on the PATH, or pyenv's newest of this version."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    built = sorted(pyenv.glob(f"versions/{version}.*/bin/python"), key=_patch)
    if built:
        return built[-1]
    if found := shutil.which(f"python{version}"):
        return Path(found)
    raise MissingError(f"there is no python{version} on the PATH or in pyenv: pyenv install {version}")


def _patch(interpreter: Path) -> int:
    digits = interpreter.parents[1].name.rpartition(".")[2]
    return int(digits) if digits.isdecimal() else -1
