"""A call that is never awaited, in a program of its own: the ERROR names its line."""

from __future__ import annotations

import subprocess
import sys


def test_the_source_tells_where_one_that_was_kept_probably_stands(tmp_path):
    (tmp_path / "shop.py").write_text(
        "from deeper_tasks import BackgroundTaskManager\n"
        "manager = BackgroundTaskManager('memory://')\n"
        "@manager.task\n"
        "async def send(n): ...\n"
    )
    (tmp_path / "script.py").write_text(
        "import asyncio\n"
        "import shop\n"
        "from shop import send as mail\n"
        "async def fine():\n"
        "    await mail.enqueue(1)\n"
        "    await asyncio.gather(mail.enqueue(1), shop.send.enqueue(2))\n"
        "asyncio.run(fine())\n"
        "job = mail.enqueue(2)\n"
        "def view():\n"
        "    return {'job': shop.send.with_options(priority=1).enqueue(2)}\n"
        "view()\n"
    )
    script = str(tmp_path / "script.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    dropped, kept = done.stderr.splitlines()
    likely = f"probably in {script}:8 or {script}:10, kept"
    assert f"({likely} and then dropped in {script}:11; " in dropped
    assert f"({likely} to the end; " in kept
