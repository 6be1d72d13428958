"""Tasks in the main module of a program, which the processes that it starts import again."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_with_its_tasks_can_be_imported_by_the_processes_that_it_starts(tmp_path, method):
    (tmp_path / "jobs.py").write_text(
        dedent(f"""
            import multiprocessing, sys
            from deeper_tasks import BackgroundTaskManager

            manager = BackgroundTaskManager("memory://")

            @manager.task(executor="process")
            def work(): ...

            def tell():
                found = manager.registry.find(sys.modules[__name__], "work")
                print(__name__, work.name, work.module, found is work)

            if __name__ == "__main__":
                tell()
                child = multiprocessing.get_context("{method}").Process(target=tell)
                child.start()
                child.join()
                sys.exit(child.exitcode)
        """)
    )
    ran = subprocess.run(
        [sys.executable, "jobs.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout.splitlines()) == (
        0,
        ["__main__ jobs.work jobs True", "__mp_main__ jobs.work jobs True"],
    ), ran.stderr
