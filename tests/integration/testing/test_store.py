"""The kit in a process of its own: it needs neither pytest nor Hypothesis."""

import subprocess
import sys


def test_the_kit_needs_neither_pytest_nor_hypothesis():
    program = (
        "import sys; import deeper_tasks.testing as kit; kit.use_memory; "
        "print([name for name in ('pytest', '_pytest', 'hypothesis') if name in sys.modules]); "
        "print(kit.BackendConformance.__name__, 'pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "BackendConformance True"]
