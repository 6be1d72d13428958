"""The numbers of states in SQL files are explained where they stand."""

from pathlib import Path

import deeper_tasks.backends
from deeper_tasks.backends.codes import CODES

FILES = sorted(Path(deeper_tasks.backends.__file__).parent.glob("*/migrations/*.sql"))


def test_each_sql_file_that_has_states_says_their_codes_at_its_head():
    codes = ", ".join(f"{code} {state}" for state, code in CODES.items())
    assert len(FILES) > 2
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "state" not in text or codes in "".join(text.splitlines()[:3]), file.name
