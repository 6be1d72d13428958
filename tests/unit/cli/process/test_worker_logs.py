"""The worker's own handler, beside what the application sets up at its import."""

from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest

from deeper_tasks.cli.process.worker_logs import JSON, NONE, TEXT, make_way, set_level, start_logging
from deeper_tasks.cli.process.worker_options import WorkerOptions


@pytest.fixture
def root():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def a_handler(stream, level=logging.NOTSET):
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    return handler


class Rich(logging.Handler):
    def __init__(self, file):
        super().__init__()
        self.console = SimpleNamespace(file=file)


class Odd(logging.Handler):
    stream = None


def output():
    return open(2, "w", closefd=False)


@pytest.mark.parametrize(
    ("theirs", "is_left"),
    [
        (a_handler(output()), False),
        (Rich(output()), False),
        (a_handler(output(), logging.ERROR), True),
        (a_handler(io.StringIO()), True),
        (Odd(), True),
        (None, True),
    ],
)
def test_the_workers_handler_makes_way_for_one_that_writes_each_line_to_the_same_output(root, theirs, is_left):
    handler = start_logging(TEXT)
    if theirs is not None:
        root.addHandler(theirs)
    make_way(handler)
    assert (handler in root.handlers) is is_left


def test_with_the_format_none_logging_is_left_to_the_application(root):
    root.setLevel(logging.ERROR)
    before = root.handlers[:]
    handler = start_logging(NONE)
    set_level(handler, asked=None, setting="info")
    make_way(handler)
    assert (root.handlers, root.level) == (before, logging.ERROR)


@pytest.mark.parametrize(("form", "options"), [(TEXT, ()), (JSON, ("--json",)), (NONE, ("--log-format=none",))])
def test_the_processes_of_a_supervisor_write_in_its_format(form, options):
    given = WorkerOptions(
        application="shop:manager", queues=None, url=None, listen_url=None, grace=None, log_level=None, log_format=form
    )
    assert given.command(is_reloading=False)[5:] == options
