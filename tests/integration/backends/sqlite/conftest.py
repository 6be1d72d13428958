"""What the tests of the SQLite store share that start processes."""

import subprocess
import sys

import pytest

from fixtures.sqlite import *


@pytest.fixture
def program():
    """Return a start of Python code in a process of its own, with pipes; all are ended with the test."""
    running = []

    def program(code, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        running.append(process)
        return process

    yield program
    for process in running:
        process.kill()
        process.communicate()
