"""Settings, from all their sources."""

from __future__ import annotations

import pytest

from deeper_tasks.config import Settings, load_settings
from deeper_tasks.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working folder, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(environ=None, **overrides):
    return load_settings(environ=environ or {}, **overrides)


def faults(environ=None, **overrides):
    with pytest.raises(ExceptionGroup) as caught:
        load(environ, **overrides)
    assert all(isinstance(fault, ConfigError) for fault in caught.value.exceptions)
    return [str(fault) for fault in caught.value.exceptions]


def test_the_defaults_are_those_of_the_specification():
    settings = load()
    assert settings == Settings()
    assert (settings.enabled, settings.default_queue, settings.default_max_attempts) == (True, "default", 5)
    assert (settings.url, settings.queues) == ("sqlite:///tasks.db", {"default": 10})


def test_each_source_wins_over_those_before(folder):
    (folder / "deeper_tasks.toml").write_text(
        'url = "memory://"\ndefault_max_attempts = 2\nlease_seconds = 40\n[queues]\na = 1\n'
    )
    environ = {"DEEPER_TASKS_DEFAULT_MAX_ATTEMPTS": "3", "DEEPER_TASKS_LEASE_SECONDS": "41", "OTHER": "x"}
    settings = load(environ, lease_seconds=42, queues=None)
    assert (settings.url, settings.default_max_attempts, settings.lease_seconds) == ("memory://", 3, 42)
    assert settings.queues == {"a": 1}


def test_the_process_s_environment_is_read_by_default(monkeypatch):
    monkeypatch.setenv("DEEPER_TASKS_URL", "memory://")
    assert load_settings().url == "memory://"


def test_the_table_of_pyproject_is_read(folder):
    (folder / "pyproject.toml").write_text('[tool.deeper_tasks]\nurl = "memory://"\n')
    assert load().url == "memory://"


def test_a_pyproject_without_our_table_says_nothing(folder):
    (folder / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert load() == Settings()


def test_our_own_file_takes_the_place_of_pyproject(folder):
    (folder / "pyproject.toml").write_text('[tool.deeper_tasks]\ndefault_queue = "p"\nurl = "noop://"')
    (folder / "deeper_tasks.toml").write_text('url = "memory://"')
    settings = load()
    assert (settings.url, settings.default_queue) == ("memory://", "default")


def test_a_file_that_is_named_must_exist(folder):
    with pytest.raises(ConfigError, match=r"'missing.toml' cannot be read: No such file"):
        load(path="missing.toml")
    (folder / "mine.toml").write_text('url = "memory://"')
    assert load(path=folder / "mine.toml").url == "memory://"


def test_a_pyproject_that_is_named_must_have_our_table(folder):
    (folder / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    with pytest.raises(ConfigError, match=r"has no table \[tool.deeper_tasks\]"):
        load(path="pyproject.toml")


@pytest.mark.parametrize("content", [b"url = ", b"\xff\xfe", b"[tool]\ndeeper_tasks = 3"])
def test_a_file_that_cannot_be_read_is_named(folder, content):
    (folder / "pyproject.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"'pyproject\.toml' is"):
        load()


def test_the_environment_can_say_everything_a_file_can():
    settings = load(
        {
            "DEEPER_TASKS_ENABLED": "off",
            "DEEPER_TASKS_QUEUES": "default:20, emails:5",
            "DEEPER_TASKS_DEFAULT_TIMEOUT_SECONDS": "none",
            "DEEPER_TASKS_RETENTION_DAYS_FAILED": "None",
            "DEEPER_TASKS_INCLUDE": "shop.tasks, shop.mails",
            "DEEPER_TASKS_QUEUE_CAPACITY": "1000",
            "DEEPER_TASKS_LOG_LEVEL": "WARNING",
            "DEEPER_TASKS_POLL_INTERVAL_SECONDS": "0.5",
            "DEEPER_TASKS_URL": "",
        }
    )
    assert settings == Settings(
        enabled=False,
        queues={"default": 20, "emails": 5},
        default_timeout_seconds=None,
        retention_days_failed=None,
        include=("shop.tasks", "shop.mails"),
        queue_capacity=1000,
        log_level="warning",
        poll_interval_seconds=0.5,
    )


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("Yes", True), ("0", False), ("no", False)])
def test_truth_is_spelled_in_several_ways(text, value):
    assert load({"DEEPER_TASKS_ENABLED": text}).enabled is value


def test_the_specification_s_spellings_are_understood(folder):
    (folder / "deeper_tasks.toml").write_text(
        'default_queue_name = "main"\n[cleanup_worker]\nretention_days_completed = 1\nretention_days_failed = 2\n'
    )
    settings = load()
    assert (settings.default_queue, settings.retention_days_completed, settings.retention_days_failed) == ("main", 1, 2)
    assert settings.queues == {"main": 10}


def test_the_default_queue_is_served_unless_queues_are_named(folder):
    assert load(default_queue="mails").queues == {"mails": 10}
    assert load({"DEEPER_TASKS_DEFAULT_QUEUE": "mails"}).queues == {"mails": 10}
    assert load(default_queue="mails", queues={"default": 1}).queues == {"default": 1}
    assert load({"DEEPER_TASKS_QUEUES": "*:3"}, default_queue="mails").queues == {"*": 3}


def test_patterns_of_queues_are_settings_in_code_in_the_environment_and_in_a_file(folder):
    (folder / "deeper_tasks.toml").write_text('[queues]\n"*" = 3\n"tenant-*" = 2\n')
    assert load().queues == {"*": 3, "tenant-*": 2}
    assert load({"DEEPER_TASKS_QUEUES": "*:4,emails:1"}).queues == {"*": 4, "emails": 1}
    assert load(queues={"*": 10}).queues == {"*": 10}
    assert load({"DEEPER_TASKS_CLEANUP_WORKER_RETENTION_DAYS_FAILED": "3"}).retention_days_failed == 3


def test_an_adapter_is_explained():
    with pytest.raises(ConfigError, match=r"no setting 'adapter' \(from DEEPER_TASKS_ADAPTER\): the scheme of url"):
        load({"DEEPER_TASKS_ADAPTER": "oban"})


def test_an_unknown_setting_names_the_nearest_and_its_source(folder):
    with pytest.raises(
        ConfigError, match=r"'defualt_queue' \(from DEEPER_TASKS_DEFUALT_QUEUE\); did you mean 'default_qu"
    ):
        load({"DEEPER_TASKS_DEFUALT_QUEUE": "x"})
    (folder / "deeper_tasks.toml").write_text("[cleanup_worker]\nretention_days = 2\n")
    with pytest.raises(ConfigError, match=r"'cleanup_worker.retention_days' \(in deeper_tasks.toml\)"):
        load()


def test_an_unknown_setting_does_not_show_its_value():
    with pytest.raises(ConfigError) as caught:
        load({"DEEPER_TASKS_PASSWORD": "secret"})
    assert "secret" not in str(caught.value)


def test_a_setting_under_two_names_is_refused():
    with pytest.raises(ConfigError, match="given twice"):
        load(default_queue="a", default_queue_name="b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", "tasks.db"),
        ("url", 3),
        ("enabled", "maybe"),
        ("enabled", 7),
        ("default_queue", "a*"),
        ("default_queue", "a=b"),
        ("queues", {"a*b": 1}),
        ("queues", {"a=b": 1}),
        ("default_queue", "a b"),
        ("default_queue", ""),
        ("default_max_attempts", 0),
        ("default_max_attempts", True),
        ("default_max_attempts", "many"),
        ("default_retry_delay_seconds", -1),
        ("default_timeout_seconds", 0),
        ("max_argument_bytes", 0),
        ("max_result_bytes", 1.5),
        ("queues", {"a": 0}),
        ("queues", {"a b": 1}),
        ("queues", {}),
        ("queues", "a:b"),
        ("queues", [1]),
        ("include", "1x"),
        ("allowed_modules", ["a..b"]),
        ("allowed_modules", 7),
        ("retention_days_completed", "nan"),
        ("retention_days_failed", -1),
        ("cleanup_interval_seconds", float("nan")),
        ("shutdown_grace_seconds", float("inf")),
        ("heartbeat_seconds", 0),
        ("lease_seconds", 0),
        ("poll_interval_seconds", 0),
        ("poll_interval_seconds", "none"),
        ("unknown_task_grace_seconds", 1e300),
        ("prefetch_milliseconds", -1),
        ("deploy_grace_seconds", -1),
        ("deploy_grace_seconds", "none"),
        ("queue_capacity", 0),
        ("loop_stall_warning_seconds", 0),
        ("loop_stall_limit_seconds", -1),
        ("stuck_slots_limit", 0),
        ("stuck_slots_limit", 2.5),
        ("stuck_seconds", 0),
        ("stuck_seconds", "none"),
        ("process_memory_limit_mb", 0),
        ("process_memory_limit_mb", 1.5),
        ("quarantine_slots", 0),
        ("log_level", "loud"),
        ("check_arguments", "none"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_error_with_name_source_and_default(name, value):
    with pytest.raises(
        ConfigError, match=rf"^setting '{name}' cannot be .* \(given as an argument\): .*; the default is "
    ):
        load(**{name: value})


def test_several_faults_come_at_once():
    messages = faults({"DEEPER_TASKS_QUEU": "x", "DEEPER_TASKS_MAX_RESULT_BYTES": "abc"}, lease_seconds=0)
    assert [message.split(" (")[0] for message in messages] == [
        "unknown setting 'queu'",
        "setting 'max_result_bytes' cannot be 'abc'",
        "setting 'lease_seconds' cannot be 0",
    ]


def test_a_lease_must_be_longer_than_a_heartbeat():
    with pytest.raises(ConfigError, match=r"'lease_seconds' \(5 s\) must be longer than 'heartbeat_seconds'"):
        load(lease_seconds=5)


def test_the_loop_must_be_warned_of_before_its_process_is_ended():
    with pytest.raises(ConfigError, match=r"'loop_stall_limit_seconds' \(500 ms\) must not be shorter"):
        load(loop_stall_limit_seconds=0.5)
    unwarned = load({"DEEPER_TASKS_LOOP_STALL_WARNING_SECONDS": "none"}, loop_stall_limit_seconds=0.5)
    assert unwarned.loop_stall_limit_seconds == 0.5
    environ = {"DEEPER_TASKS_LOOP_STALL_WARNING_SECONDS": "none", "DEEPER_TASKS_PROCESS_MEMORY_LIMIT_MB": "512"}
    settings = load(environ)
    assert (settings.loop_stall_warning_seconds, settings.process_memory_limit_mb) == (None, 512)


def test_no_password_is_shown():
    settings = load(url="postgresql://user:secret@host/db")
    assert "secret" not in repr(settings)
    assert "postgresql://user:***@host/db" in repr(settings)
    with pytest.raises(ConfigError) as caught:
        load(url="user:secret@host")
    assert "secret" not in str(caught.value)


def test_no_password_of_the_url_to_listen_by_is_shown():
    settings = load({"DEEPER_TASKS_LISTEN_URL": "postgresql://user:secret@host/db"})
    assert settings.listen_url == "postgresql://user:secret@host/db"
    assert "secret" not in repr(settings)
    assert "listen_url='postgresql://user:***@host/db'" in repr(settings)
    assert "listen_url=None" in repr(load({"DEEPER_TASKS_LISTEN_URL": "none"}))
    with pytest.raises(ConfigError, match="'listen_url' cannot be") as caught:
        load(listen_url="user:secret@host")
    assert "secret" not in str(caught.value)
