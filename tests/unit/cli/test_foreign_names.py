"""Words of other libraries' commands meet an error that names what takes their place."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["worker", "-A", "shop.py:manager"], "deeper worker shop:manager"),
        (["worker", "--app=shop"], "deeper worker shop:manager"),
        (
            ["-A", "shop", "worker", "-l", "info"],
            "write 'deeper worker shop:manager'; the level of the log is --log-level",
        ),
        (["worker", "shop:manager", "-c4"], "there is no option '-c': each queue has its own number of slots"),
        (
            ["worker", "shop:manager", "--concurrency=4"],
            "no option '--concurrency': each queue has its own number of slots",
        ),
        (["worker", "shop:manager", "-B"], "every worker fires recurring tasks"),
        (["beat"], "there is no command 'beat': every worker fires recurring tasks"),
        (["inspect", "active"], "there is no command 'inspect': see 'deeper stats'"),
        (["purge"], "there is no command 'purge': write 'deeper delete --queue default'"),
    ],
)
def test_a_word_of_another_library_names_ours(deeper, words, message):
    result = deeper(*words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_several_options_of_another_library_are_answered_at_once(deeper):
    told = deeper("worker", "-A", "shop.py", "-Q", "emails", "-c", "4", "--loglevel=info").stderr
    for each in ("'deeper worker shop:manager'", "--queues default:10,emails:5", "--queues default:10", "--log-level"):
        assert each in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("words", [["worker", "shop:manager", "--nonsense"], ["list", "-c"], ["nonsense"]])
def test_what_no_library_says_is_answered_as_ever(deeper, words):
    result = deeper(*words)
    assert result.exit_code == 2
    assert "No such" in result.stderr
