"""What annotations import: Pydantic only where one of them names a model."""

from __future__ import annotations

import subprocess
import sys


def test_pydantic_is_not_imported_where_no_annotation_names_a_model():
    program = (
        "import sys, datetime\n"
        "from deeper_tasks.tasks.arguments import Signature\n"
        "def f(a: str | datetime.date): ...\n"
        "Signature(f).encode(['x'], {}, max_bytes=100)\n"
        "print([name for name in sys.modules if name.startswith('pydantic')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
