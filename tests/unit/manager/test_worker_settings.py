"""The settings of a manager as its worker takes them."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

import deeper_tasks
from deeper_tasks.config import Settings
from deeper_tasks.errors import ConfigError
from deeper_tasks.manager.worker_settings import worker_settings
from deeper_tasks.worker.settings import WorkerSettings


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


OTHER_VALUES = {
    "default_queue": "mail",
    "queues": {"mail": 1},
    "lease_seconds": 77.0,
    "loop_stall_warning_seconds": 2.0,
    "loop_stall_limit_seconds": 120.0,
}
"""A value of a setting that differs from its default and fits the other settings; a number is enough for the others."""

NOT_OF_THE_WORKER = {
    # of the store
    *("url", "listen_url", "joined_hints", "enabled"),
    # of an enqueue, and of the tasks
    *("default_max_attempts", "check_arguments", "enqueue_patience_seconds", "max_argument_bytes"),
    *("include", "task_modules", "allowed_modules"),
    # of the command, its processes and logs
    *("processes", "silence_limit_seconds", "health_host", "health_port", "health_file"),
    *("redact_names", "redact_patterns", "log_tracebacks", "log_level"),
}


def changed(name):
    return worker_settings(Settings(**{name: OTHER_VALUES.get(name, 9)}))


def test_each_setting_of_a_worker_reaches_it():
    of_the_worker = set(Settings.__struct_fields__) - NOT_OF_THE_WORKER
    unchanged = worker_settings(Settings())
    assert [name for name in sorted(of_the_worker) if changed(name) == unchanged] == []
    reached = {
        field
        for name in of_the_worker
        for field in WorkerSettings.__struct_fields__
        if getattr(changed(name), field) != getattr(unchanged, field)
    }
    assert set(WorkerSettings.__struct_fields__) - reached == {"name"}


def test_a_worker_that_is_given_few_settings_has_the_defaults_of_the_manager_s_settings():
    by_default = worker_settings(Settings())
    assert WorkerSettings(queues=by_default.queues) == by_default


@pytest.mark.parametrize(
    ("settings", "part"), [(WorkerSettings, "worker"), (Settings, "")], ids=["of a worker", "of a manager"]
)
def test_each_setting_is_read_by_the_code(settings, part):
    read = {
        name
        for path in (Path(deeper_tasks.__file__).parent / part).rglob("*.py")
        for name in re.findall(r"settings\.(\w+)", path.read_text())
    }
    assert set(settings.__struct_fields__) - read == set()
