"""What is told of several processes together."""

import os

import pytest

from deeper_tasks.health.health import ProcessHealth, ProcessStatus, Status, sum_up


def _process(status):
    return ProcessHealth(index=1, name="worker-1", pid=1, status=status)


@pytest.mark.parametrize(
    ("each", "status", "ready"),
    [
        (["ready", "ready"], Status.OK, True),
        (["ready", "down"], Status.DEGRADED, True),
        (["starting", "ready"], Status.DEGRADED, True),
        (["stopping", "ready"], Status.DEGRADED, True),
        (["unready", "starting"], Status.UNREADY, False),
        ([], Status.UNREADY, False),
    ],
)
def test_work_goes_on_as_long_as_one_process_is_ready(each, status, ready):
    health = sum_up([_process(ProcessStatus(one)) for one in each], is_live=True, is_stopping=False)
    assert (health.status, health.ready, health.live, health.pid) == (status, ready, True, os.getpid())
    assert [process.status for process in health.processes] == each


def test_what_is_to_stop_is_not_ready_whatever_its_processes_say():
    health = sum_up([_process(ProcessStatus.READY)], is_live=True, is_stopping=True)
    assert (health.status, health.ready) == (Status.STOPPING, False)
