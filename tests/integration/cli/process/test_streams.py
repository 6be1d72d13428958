"""The streams of a command in a process of its own: every encoding, a full disk, and a closed pipe."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from deeper_tasks.cli import main
from fixtures.cli import URL

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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_command_answers_in_every_encoding(run, job, encoding):
    for words in (*LOOKS, ("status", job, *STORE), ("status", "größe", *STORE)):
        code, shown, told = run(*words, encoding=encoding)
        assert code in {0, 1, 3}, (words, told)
        assert shown or told, words
    for words in (("status", job, *STORE), ("list", *STORE), ("stats", *STORE), ("queues", *STORE), ("doctor", *STORE)):
        json.loads(run(*words, "--json", encoding=encoding)[1])


@pytest.mark.parametrize("words", [*LOOKS, ("list", *STORE, "--json"), ("--help",)])
def test_an_answer_for_which_there_is_no_room_ends_with_a_line(monkeypatch, capsys, words):
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(words)
    assert ended.value.code == 1
    assert "the answer cannot be written: No space left on device" in capsys.readouterr().err.splitlines()[-1]


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
