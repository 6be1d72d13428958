"""Stores are imported when a URL asks for them."""

import subprocess
import sys


def test_no_store_is_imported_before_a_url_asks_for_it():
    program = (
        "import sys, deeper_tasks, deeper_tasks.manager.stores as stores; "
        "packages = {module.rpartition('.')[0] for module in stores.URL_MODULES.values()}; "
        "print(sorted(packages & sys.modules.keys())); "
        "stores.make_backend('noop://'); "
        "print(sorted(packages & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "['deeper_tasks.backends.noop']"]
