"""`deeper demo` on a terminal; what it does is seen by the acceptance tests."""

from __future__ import annotations

import tempfile


def test_on_a_terminal_it_draws_what_happens(on_terminal):
    screen = on_terminal("demo", columns=110)
    screen.read_until("page 3 of 40")
    assert screen.wait() == 0
    for text in ("sun over Lisbon", "the card 4711 has expired", "each second, ", "try next:"):
        assert text in screen.text


def test_ctrl_c_leaves_the_terminal_as_it_was(on_terminal):
    screen = on_terminal("demo", columns=110)
    screen.read_until("a worker runs jobs")
    screen.press(b"\x03")
    assert screen.wait() == 130
    assert "deeper: interrupted" in screen.text
    assert "Traceback" not in screen.text
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l")


def test_a_file_that_cannot_be_kept_is_refused(deeper, folder):
    (folder / "mine.db").write_text("keep me")
    taken, nowhere = deeper("demo", "--keep", "mine.db"), deeper("demo", "--keep", "absent/demo.db")
    assert (taken.exit_code, nowhere.exit_code) == (2, 2)
    assert "exists already" in taken.stderr
    assert "does not exist" in nowhere.stderr
    assert (folder / "mine.db").read_text() == "keep me"


def test_without_a_temporary_folder_the_demonstration_asks_for_one(folder, deeper, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "absent"))
    result = deeper("demo")
    assert result.exit_code == 1
    assert "set TMPDIR to a writable folder, or name a file: --keep demo.db" in result.stderr
