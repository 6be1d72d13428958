"""The tracebacks of `deeper status`: the frames of the job's own code, as text that can be copied."""

from __future__ import annotations

from deeper_tasks.cli.rendering.tracebacks import own_frames

STORE = ("--url", "sqlite:///tasks.db")
CALLED = """\
Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/deeper_tasks/worker/execution/call.py", line 93, in run
    value = await self.handler(*args)
            ^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/lib/python3.12/concurrent/futures/thread.py", line 58, in run
    result = self.fn(*self.args, **self.kwargs)
  File "C:\\venv\\Lib\\site-packages\\deeper_tasks\\worker\\execution\\middleware.py", line 1, in run
"""
OWN = """\
  File "/srv/shop/deeper_tasks/tasks.py", line 7, in charge
    await asyncio.wait_for(pay(), 5)
  [Previous line repeated 3 more times]
  File "/usr/lib/python3.12/asyncio/tasks.py", line 507, in wait_for
    return await fut
           ~~~~^^^^^
"""
HEAD = CALLED.splitlines(keepends=True)[0]


def line_of(folder):
    """Return the line of the application that raises."""
    return (folder / "shop.py").read_text().splitlines().index("    raise ValueError(reason)") + 1


def test_status_shows_the_frames_of_the_jobs_code_alone(deeper, dead, folder):
    shown = deeper("status", dead, *STORE).stdout
    assert (
        "\nTraceback (most recent call last):\n"
        f'  File "{folder / "shop.py"}", line {line_of(folder)}, in fail\n'
        "    raise ValueError(reason)\n"
        "ValueError: �[2J[red]no paper\n"
    ) in shown
    assert "deeper_tasks/worker" not in shown
    assert "without the frames of deeper_tasks; --full shows them" in shown


def test_all_frames_are_shown_where_they_are_asked_for(deeper, dead):
    shown = deeper("status", dead, "--full", *STORE).stdout
    assert "deeper_tasks/worker" in shown
    assert "--full shows them" not in shown


def test_a_traceback_is_not_wrapped_in_a_narrow_terminal(deeper, dead, folder, at_width):
    at_width(40)
    assert f'  File "{folder / "shop.py"}", line {line_of(folder)}, in fail\n' in deeper("status", dead, *STORE).stdout


def test_the_frames_that_call_a_job_are_left_out_and_those_that_it_calls_are_not():
    own = "ValueError: Traceback (most recent call last)\n  of the till"
    assert own_frames(f"{CALLED}{OWN}{own}") == f"{HEAD}{OWN}{own}"


def test_frames_of_deeper_tasks_that_a_job_calls_are_left_out_too():
    inside = CALLED.removeprefix(HEAD)
    assert own_frames(f"{HEAD}{OWN}{inside}{OWN}TypeError: x") == f"{HEAD}{OWN}{OWN}TypeError: x"


def test_each_exception_of_a_chain_is_cut_by_itself():
    between = "\nThe above exception was the direct cause of the following exception:\n\n"
    text = f"{CALLED}KeyError: 1\n{between}{CALLED}{OWN}ValueError: 2"
    assert own_frames(text) == f"KeyError: 1\n{between}{HEAD}{OWN}ValueError: 2"


def test_the_exceptions_of_a_group_are_cut_too():
    def inner(text):
        return "".join(f"    | {line}" for line in text.splitlines(keepends=True))

    def group(first, second):
        outer = "".join(f"  | {line}" for line in first.removeprefix(HEAD).splitlines(keepends=True))
        return (
            f"  + Exception Group Traceback (most recent call last):\n{outer}"
            "  | ExceptionGroup: two (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
            f"{inner(second)}    | ValueError: x\n    +------------------------------------"
        )

    assert own_frames(group(CALLED + OWN, CALLED + OWN)) == group(HEAD + OWN, HEAD + OWN)
    assert own_frames(group(CALLED, OWN)) == group(HEAD, OWN)


def test_a_text_that_is_no_traceback_stays_as_it_is():
    for text in ("", "worker_lost: the worker died", '…n/call.py", line 9, in run\n    await it()\nValueError: x'):
        assert own_frames(text) == text
