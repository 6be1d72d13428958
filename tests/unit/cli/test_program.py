"""The command as a whole: help, exit codes, and how errors are told."""

from __future__ import annotations

import json

import click
import pytest

from deeper_tasks import __version__
from deeper_tasks.cli import main
from deeper_tasks.cli.program import ExitCode, report_error
from deeper_tasks.errors import (
    BackendUnavailableError,
    ConfigError,
    DeeperTasksError,
    DuplicateJobError,
    InvalidArgumentsError,
    InvalidOptionError,
    InvalidTransitionError,
    JobNotFoundError,
    ScheduleNotFoundError,
    SchemaError,
    TaskNotFoundError,
    UnsupportedError,
)

NAMES = sorted(main.commands)
SUBCOMMANDS = [
    (name, below)
    for name, command in main.commands.items()
    if isinstance(command, click.Group)
    for below in command.commands
]
PATHS = [(name,) for name in NAMES] + SUBCOMMANDS
WITHOUT_STORE = {"completion", "demo", "health"}


def test_the_commands_are_those_of_the_documentation():
    assert NAMES == [
        "cancel",
        "cleanup",
        "completion",
        "delete",
        "demo",
        "doctor",
        "enqueue",
        "health",
        "list",
        "migrate",
        "queues",
        "reschedule",
        "retry",
        "run-now",
        "schedules",
        "stats",
        "status",
        "worker",
    ]


@pytest.mark.parametrize("words", [["--help"], []])
def test_the_help_teaches_with_examples_and_says_what_exit_codes_mean(deeper, words):
    result = deeper(*words)
    assert result.exit_code == 0
    assert "deeper worker myapp.tasks:manager" in result.stdout
    assert "4    the store cannot be reached" in result.stdout
    for code in set(ExitCode) - {ExitCode.DONE}:
        assert f"\n    {int(code):<5}" in result.stdout


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_the_help_of_each_command_has_examples_and_the_options_for_store_and_json(deeper, path):
    result = deeper(*path, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    deeper {' '.join(path)}" in result.stdout
    assert ("--url" in result.stdout) is (path[0] not in WITHOUT_STORE)
    assert ("--json" in result.stdout) is (path[0] != "completion")


def test_it_tells_its_version(deeper):
    assert deeper("--version").stdout == f"deeper {__version__}\n"


@pytest.mark.parametrize("words", [["nonsense"], ["list", "--nonsense"], ["list", "--status", "nonsense"], ["status"]])
def test_wrong_usage_is_one_line_and_exit_code_2(deeper, words):
    result = deeper(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("deeper: ")
    assert result.stderr.endswith("--help'\n")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_with_json_wrong_usage_is_a_json_object(deeper):
    result = deeper("status", "--json")
    assert json.loads(result.stderr) == {
        "error": "MissingParameter",
        "message": "Missing argument 'ID'; see 'deeper status --help'",
        "exit_code": 2,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (InvalidOptionError("x"), 2),
        (JobNotFoundError("x"), 3),
        (TaskNotFoundError("x"), 3),
        (ScheduleNotFoundError("x"), 3),
        (BackendUnavailableError("x"), 4),
        (SchemaError("x"), 4),
        (InvalidTransitionError("x"), 1),
        (InvalidArgumentsError("x"), 1),
        (DuplicateJobError("x"), 1),
        (UnsupportedError("x"), 1),
        (click.UsageError("x"), 2),
    ],
)
def test_each_error_has_its_exit_code(error, code, capsys):
    assert report_error(error, as_json=False) == code
    assert capsys.readouterr().err == "deeper: x\n"


def test_an_error_cannot_rewrite_the_terminal(capsys):
    report_error(DeeperTasksError("it said \x1b[2J\x9b2J"), as_json=False)
    assert capsys.readouterr().err == "deeper: it said �[2J�2J\n"


def test_several_faults_are_a_line_each(capsys):
    group = ExceptionGroup("two", [ConfigError("one\nthing"), ExceptionGroup("more", [ConfigError("another")])])
    assert report_error(group, as_json=False) is ExitCode.USAGE
    assert capsys.readouterr().err == "deeper: one thing\ndeeper: another\n"
    assert report_error(group, as_json=True) is ExitCode.USAGE
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["one thing", "another"]


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        report_error(ExceptionGroup("", [ZeroDivisionError()]), as_json=False)


def test_an_interruption_is_told_without_a_traceback(deeper, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.commands["stats"], "callback", interrupt)
    result = deeper("stats")
    assert (result.exit_code, result.stderr.strip()) == (130, "deeper: interrupted")


def test_a_group_lists_where_no_command_is_named(deeper):
    for group in ("queues", "schedules"):
        assert deeper(group, "--url", "sqlite:///tasks.db", "--json").stdout == "[]\n"
        assert deeper(group, "list", "--url", "sqlite:///tasks.db", "--json").stdout == "[]\n"
        assert deeper(group, "nonsense").exit_code == 2
