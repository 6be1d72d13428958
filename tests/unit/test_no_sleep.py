"""No test sleeps for a fixed time: it waits for a condition, or its sleep is the work that it is about."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SLEEPS = {"asyncio.sleep", "time.sleep"}
ENDLESS = 60
"""Seconds from which on a sleep stands for what never ends: no test waits for its end."""
EXEMPT = {
    "simulated_work.py": "it is for handlers whose time is the subject",
    "acceptance/app": "the application under test, whose tasks take as long as a test says",
    "servers/proxy.py": "the delay of a slow network",
}


def fixed_sleeps(source):
    """Return the lines of the sleeps of a fixed time: not 0, not endless, and not between two looks of a loop."""
    lines = []

    def visit(node, *, is_in_loop):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SLEEPS and not is_in_loop:
            seconds = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if seconds is None or 0 < seconds < ENDLESS:
                lines.append(node.lineno)
        for child in ast.iter_child_nodes(node):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, is_in_loop=not is_function and (is_in_loop or isinstance(child, ast.While)))

    visit(ast.parse(source), is_in_loop=False)
    return lines


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("time.sleep(0.1)", [1]),
        ("async def test(): await asyncio.sleep(PAUSE)", [1]),
        ("while True:\n    def work(): time.sleep(1)", [2]),
        ("for _ in range(3): time.sleep(0.1)", [1]),
        ("while not done(): time.sleep(0.005)", []),
        ("asyncio.sleep(0)", []),
        ("def hang(): time.sleep(1000)", []),
    ],
)
def test_a_sleep_of_a_fixed_time_is_found(source, lines):
    assert fixed_sleeps(source) == lines


def test_no_test_sleeps_for_a_fixed_time():
    found = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if not any(path.is_relative_to(TESTS / exempt) for exempt in EXEMPT)
        for line in fixed_sleeps(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "wait for a condition (the fixture wait_until), or take work_for or block_for of simulated_work"
