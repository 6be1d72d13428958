"""The command in a process of its own: as a module, what it imports, a closed pipe, and NO_COLOR."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deeper_tasks import __version__


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "deeper_tasks.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"deeper {__version__}\n"


def test_showing_the_help_imports_nothing_that_draws():
    program = "import sys, deeper_tasks.cli; sys.exit(any(name.split('.')[0] == 'rich' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("words", [["list", "--per-page", "1000"], ["list", "--per-page", "1000", "--json"]])
def test_it_ends_quietly_when_nobody_reads_on(piped, enqueue, *, words):
    enqueue("shop.add", 1)
    process = piped(*words, "--url", "sqlite:///tasks.db")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(40) == 141


def test_no_color_is_respected(on_terminal, dead):
    coloured = on_terminal("list", "--url", "sqlite:///tasks.db")
    assert coloured.wait() == 0
    plain = on_terminal("list", "--url", "sqlite:///tasks.db", NO_COLOR="1")
    assert plain.wait() == 0
    red = "\x1b[1;31m"
    assert red in coloured.raw
    assert red not in plain.raw
