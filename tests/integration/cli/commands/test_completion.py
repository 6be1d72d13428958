"""`deeper completion` in a real shell: scripts that load, and names for what a user types."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from deeper_tasks.cli.application import load_manager


def _asked_by_bash(line):
    return {"_DEEPER_COMPLETE": "bash_complete", "COMP_LINE": line, "COMP_BREAKS": " \t\n\"'><=;|&(:"}


def _read(answer):
    return [each.partition(",")[2] for each in answer.split()]


def suggest_as_a_program(line):
    """Return the same of a process, as a shell starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "deeper_tasks.cli"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={**os.environ, **_asked_by_bash(line)},
    )
    assert done.stderr == ""
    return _read(done.stdout)


def suggest_as_a_program_patiently(line):
    """Press the key again while nothing comes: a busy machine may need longer than the user at the shell would wait."""
    deadline = time.monotonic() + 60
    while not (found := suggest_as_a_program(line)) and time.monotonic() < deadline:
        pass
    return found


@pytest.fixture
def named(enqueue):
    """Have a queue and a recurring task there."""
    enqueue("post.welcome", "Ada")
    manager = load_manager("shop:manager")
    manager.sync.schedule_recurring_task("nightly", "shop", "add", [1], "@daily")
    manager.sync.close()


@pytest.mark.parametrize(("shell", "said"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --no-")])
def test_each_shell_has_its_script(deeper, *, shell, said):
    result = deeper("completion", shell)
    assert result.exit_code == 0
    assert said in result.stdout
    assert "_DEEPER_COMPLETE" in result.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_for_bash_is_one(deeper):
    script = deeper("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_an_application_that_talks_or_hangs_does_not_disturb_who_types(folder, named):
    (folder / "chatty.py").write_text("print('welcome to the shop')\nfrom shop import manager")
    assert suggest_as_a_program_patiently("deeper queues pause --app chatty:manager e") == ["emails"]
    (folder / "slow.py").write_text("import time\ntime.sleep(3600)")
    # It sleeps for longer than the program waits.
    assert suggest_as_a_program("deeper queues pause --app slow:manager e") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_what_is_typed_when_tab_is_pressed(in_bash, named):
    shell = in_bash()
    shell.press(b'eval "$(deeper completion bash)"; echo re""ady\r')
    shell.read_until("ready")
    for typed, completed in (
        (b"deeper sche", "deeper schedules "),
        (b"deeper worker sh", "deeper worker shop:manager "),
        (b"deeper worker shop:m", "deeper worker shop:manager "),
        (b"deeper list --app=shop:manager --queue=e", "--queue=emails "),
        (b"deeper worker shop:manager --queues emails:5,de", "--queues emails:5,default:"),
        (b"deeper enqueue --app shop:manager post.w", "shop:manager post.welcome "),
    ):
        shell.press(typed)
        shell.press_until(b"\t", completed)
        shell.press(b"\x15")
    assert "rror" not in shell.text
