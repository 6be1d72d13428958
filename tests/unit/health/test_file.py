"""The health file: fresh while ready, whole at any moment, gone at the end."""

import json

import pytest

from deeper_tasks.errors import ConfigError
from deeper_tasks.health import HealthFile, ProcessHealth, ProcessStatus
from deeper_tasks.health.health import sum_up


def _health(status):
    process = ProcessHealth(index=1, name="worker", pid=1, status=ProcessStatus(status))
    return sum_up([process], is_live=True, is_stopping=False)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "health.json"


def test_it_is_written_while_ready_and_no_more_often_than_it_must(path, clock):
    file = HealthFile(path, now=clock)
    file.refresh(_health("ready"))
    assert json.loads(path.read_text())["status"] == "ok"
    path.unlink()
    clock.now = 1.9
    file.refresh(_health("ready"))
    assert not path.exists()
    clock.now = 2.0
    file.refresh(_health("ready"))
    assert path.exists()
    file.remove()
    assert list(path.parent.iterdir()) == []


def test_it_is_not_written_while_not_ready(path, clock):
    HealthFile(path, now=clock).refresh(_health("unready"))
    assert not path.exists()


def test_what_another_left_behind_is_taken_away_first(path, clock):
    path.write_text("ready, said the one who was killed")
    HealthFile(path, now=clock)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match=r"absent/health.json' cannot be written: No such file or directory"):
        HealthFile(tmp_path / "absent" / "health.json")
    with pytest.raises(ConfigError, match="Is a directory"):
        HealthFile(tmp_path)


def test_a_disk_that_fails_is_told_once_and_tried_again(tmp_path, clock, caplog):
    folder = tmp_path / "there"
    folder.mkdir()
    file = HealthFile(folder / "health.json", now=clock)
    folder.rmdir()
    for now in (0.0, 2.0, 4.0):
        clock.now = now
        file.refresh(_health("ready"))
    assert caplog.text.count("cannot be written, trying again") == 1
    folder.mkdir()
    clock.now = 6.0
    file.refresh(_health("ready"))
    assert (folder / "health.json").exists()
