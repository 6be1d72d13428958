"""The proof of production: what holds is shown, what the machine lacks is skipped and counts as not shown."""

from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[3]


@pytest.fixture
def play(monkeypatch):
    """Return a run of the proof with situations of these names: each holds, lacks something, or does not hold."""
    monkeypatch.syspath_prepend(str(ROOT))
    from proofs.production import command
    from proofs.production.needs import Missing, Need
    from proofs.production.situation import Situation

    def holds(site):
        site.run("true", "true")

    def breaks(_):
        raise AssertionError("a job ran twice")

    def lacks(_):
        raise Missing("no package uwsgi")

    needs = (Need(is_there=lambda: False, missing="it takes root"),)
    known = {
        "holds": Situation(name="holds", plays="what holds", play=holds),
        "needs": Situation(name="needs", plays="what needs root", needs=needs, play=breaks),
        "lacks": Situation(name="lacks", plays="what finds that something is missing", play=lacks),
        "breaks": Situation(name="breaks", plays="what does not hold", play=breaks),
    }

    def play(*names):
        monkeypatch.setattr(command, "SITUATIONS", [known[name] for name in names])
        monkeypatch.setattr(command, "_NAMES", list(names))
        return CliRunner().invoke(command.production, [])

    return play


def lines(result):
    return {words[0]: " ".join(words[3:]) for line in result.output.splitlines() if len(words := line.split()) > 3}


def test_what_holds_is_shown(play):
    result = play("holds")
    assert lines(result)["holds"] == "shown"
    assert result.exit_code == 0


def test_what_the_machine_lacks_is_skipped_with_the_reason_and_shows_nothing(play):
    result = play("holds", "needs", "lacks")
    assert lines(result)["needs"] == "skipped, not shown: it takes root"
    assert lines(result)["lacks"] == "skipped, not shown: no package uwsgi"
    assert result.exit_code == 77


def test_what_does_not_hold_fails_the_proof_and_says_what_was_seen(play):
    result = play("breaks", "lacks", "holds")
    assert "a job ran twice" in result.output
    assert lines(result)["breaks"] == "FAILED"
    assert lines(result)["holds"] == "shown"
    assert result.exit_code == 1


def test_a_proof_that_was_shown_in_part_is_no_failure_and_not_proved(monkeypatch):
    from datetime import timedelta

    monkeypatch.syspath_prepend(str(ROOT))
    from proofs.series import Result

    result = Result(name="production", took=timedelta(seconds=1), exit_code=77)
    assert (result.is_failed, result.verdict) == (False, "shown in part: see what it skipped")
