"""The settings of a manager as its worker takes them."""

from datetime import timedelta

import pytest

from deeper_tasks.config import Settings
from deeper_tasks.errors import ConfigError
from deeper_tasks.manager.worker_settings import worker_settings


def test_a_worker_guards_itself_as_the_settings_say():
    settings = worker_settings(
        Settings(
            loop_stall_warning_seconds=0.5, loop_stall_limit_seconds=60, process_memory_limit_mb=512, quarantine_slots=3
        )
    )
    assert settings.loop_stall_warning == timedelta(milliseconds=500)
    assert settings.loop_stall_limit == timedelta(minutes=1)
    assert settings.process_memory_limit_mb == 512
    assert settings.quarantine_slots == 3


def test_a_worker_gives_up_stuck_slots_as_the_settings_say():
    by_default, settings = worker_settings(Settings()), worker_settings(Settings(stuck_slots_limit=3, stuck_seconds=60))
    assert (by_default.stuck_slots_limit, by_default.stuck_after) == (None, timedelta(hours=1))
    assert (settings.stuck_slots_limit, settings.stuck_after) == (3, timedelta(minutes=1))


def test_each_grace_is_as_the_settings_say():
    settings = worker_settings(Settings(unknown_task_grace_seconds=60, deploy_grace_seconds=0))
    assert (settings.unknown_task_grace, settings.deploy_grace) == (timedelta(minutes=1), timedelta(0))
    assert worker_settings(Settings()).deploy_grace == timedelta(minutes=15)


@pytest.mark.parametrize("queues", [{"a=b": 1}, {"a*b": 1}, {"a b": 1}, {"a": 0}])
def test_queues_given_in_code_are_checked_as_those_of_the_settings(queues):
    with pytest.raises(ConfigError):
        worker_settings(Settings(), queues)


def test_the_queues_of_a_worker_are_those_given_or_those_of_the_settings():
    settings = worker_settings(Settings(default_queue="mails"), {"tenant-*": 2})
    assert (settings.queues, settings.default_queue) == ({"tenant-*": 2}, "mails")
    assert worker_settings(Settings(default_queue="mails")).queues == {"mails": 10}


def test_what_is_switched_off_is_off_in_the_worker_too():
    settings = worker_settings(Settings(loop_stall_warning_seconds=None))
    assert (settings.loop_stall_warning, settings.loop_stall_limit) == (None, None)
    assert settings.process_memory_limit_mb is None
