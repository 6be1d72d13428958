"""The streams of the command: in every encoding an answer, and a line where none can be written."""

import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.unit.cli.conftest import URL

from deeper_tasks.cli import main
from deeper_tasks.cli.process.streams import ClosedOutput

STORE = ("--url", URL)
LOOKS = (
    ("list", *STORE),
    ("list", "--dead", *STORE),
    ("stats", *STORE),
    ("queues", *STORE),
    ("schedules", *STORE),
    ("doctor", *STORE),
    ("migrate", *STORE),
    ("cleanup", *STORE),
    ("queues", "pause", "default", *STORE),
    ("health", "--file", "gesünd"),
    ("completion", "bash"),
)


@pytest.fixture
def run(monkeypatch):
    """Run the command with a stdout and a stderr of an encoding; returns its code and what was written."""

    def run(*words, encoding="ascii", errors="strict"):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as ended:
                main([str(word) for word in words])
        for stream in streams:
            stream.flush()
        # Click takes ASCII for a locale that is not set, and writes UTF-8.
        known = "utf-8" if encoding == "ascii" else encoding
        return ended.value.code, *(stream.buffer.getvalue().decode(known) for stream in streams)

    return run


@pytest.fixture
def job(enqueue):
    """A job whose texts are in no small encoding."""
    return enqueue("post.welcome", "Zoë → 💩 …", "--queue", "größe", "--tag", "żółć")


def commands_of(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, (*path, name))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_all_help_can_be_written_in_every_encoding(run, encoding):
    for path in [(), *commands_of(main)]:
        code, shown, _ = run(*path, "--help", encoding=encoding)
        assert (code, "Usage: " in shown) == (0, True), path


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_command_answers_in_every_encoding(run, job, encoding):
    for words in (*LOOKS, ("status", job, *STORE), ("status", "größe", *STORE)):
        code, shown, told = run(*words, encoding=encoding)
        assert code in {0, 1, 3}, (words, told)
        assert shown or told, words
    for words in (("status", job, *STORE), ("list", *STORE), ("stats", *STORE), ("queues", *STORE), ("doctor", *STORE)):
        json.loads(run(*words, "--json", encoding=encoding)[1])


def test_json_in_another_encoding_says_what_it_says_in_utf_8(run, job):
    words = ("status", job, *STORE, "--json")
    _, plain, _ = run(*words)
    _, whole, _ = run(*words, encoding="utf-8")
    assert plain.isascii()
    assert json.loads(plain)["args"] == json.loads(whole)["args"] == ["Zoë → 💩 …"]
    _, _, told = run("list", "--queue", "a=ü", "--url", "tâches…", "--json")
    assert "tâches…" in json.loads(told)["message"]


def test_an_ornament_has_a_plain_stand_in(run, folder):
    (folder / "tasks.db").chmod(0o644)
    _, shown, _ = run("doctor", *STORE)
    assert "-> " in shown
    assert "\\u" not in shown


def test_a_text_that_is_none_can_be_written_in_utf_8(run):
    code, _, told = run("list", "--app", "\udcff:manager", encoding="utf-8")
    assert code == 2
    assert told.startswith("deeper: ")


@pytest.mark.parametrize("words", [*LOOKS, ("list", *STORE, "--json"), ("--help",)])
def test_an_answer_for_which_there_is_no_room_ends_with_a_line(monkeypatch, capsys, words):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(words)
    assert ended.value.code == 1
    assert "the answer cannot be written: No space left on device" in capsys.readouterr().err.splitlines()[-1]


def test_an_answer_to_a_closed_stdout_ends_with_a_line(monkeypatch, capsys):
    for words in (("list", *STORE), ("stats", *STORE), ("doctor", *STORE)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", None)
            with pytest.raises(SystemExit) as ended:
                main(words)
            assert isinstance(sys.stdout, ClosedOutput)
        assert ended.value.code == 1
        assert capsys.readouterr().err == "deeper: the answer cannot be written: Bad file descriptor\n"


def test_a_closed_stdin_is_empty(monkeypatch, capsys):
    asked = (("delete", "--dead", *STORE), "cannot ask without a terminal")
    read = (("enqueue", "x", "--unchecked", "--from", "-", *STORE), "0 jobs")
    for words, told in (asked, read):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", None)
            with pytest.raises(SystemExit):
                main(words)
            sys.stdin.close()
        assert told in "".join(capsys.readouterr())


def test_health_answers_by_its_code_without_a_stdout(monkeypatch, folder):
    (folder / "worker.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with pytest.raises(SystemExit) as ended:
            main(["health", "--file", "worker.json"])
    assert ended.value.code == 0


def test_the_process_leaves_no_complaint_of_the_interpreters(folder):
    line = f'"{sys.executable}" -m deeper_tasks.cli list --url {URL}'
    for outputs, told in (
        (">/dev/full", b"No space left on device"),
        (">/dev/full 2>/dev/full", b""),
        (">&- 2>&-", b""),
    ):
        ended = subprocess.run(["sh", "-c", f"{line} {outputs}"], stderr=subprocess.PIPE, check=False)
        assert ended.returncode == 1
        assert ended.stderr.count(b"\n") == bool(told)
        assert told in ended.stderr
