"""The streams of the command: in every encoding an answer, and a line where none can be written."""

import io
import json
import sys

import click
import pytest

from deeper_tasks.cli import main
from deeper_tasks.cli.process.streams import ClosedOutput
from fixtures.cli import URL

STORE = ("--url", URL)


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
    asked = (("delete", "--dead", *STORE), "cannot ask for confirmation without a terminal")
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
