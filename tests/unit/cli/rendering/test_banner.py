"""The banner: what a worker says of itself when it starts."""

from __future__ import annotations

import signal

import pytest

from deeper_tasks.cli.rendering.banner import greet
from deeper_tasks.supervisor import Loaded


@pytest.fixture
def hang_up_is():
    """Set what SIGHUP does here, until the test ends."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("handler", "is_said"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_supervisor_names_the_signal_that_restarts_unless_nohup_has_it_ignored(hang_up_is, capsys, handler, is_said):
    hang_up_is(handler)
    greet(
        "shop:manager", Loaded(store="s", queues={"default": 1}, tasks=1, grace=1), log_format="text", children=[1, 2]
    )
    assert ("SIGHUP restarts" in capsys.readouterr().err) is is_said
