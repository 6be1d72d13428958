"""What a store URL imports: psycopg only where it is used, with an error that says what to install."""

import subprocess
import sys


def test_the_store_and_its_driver_are_imported_only_where_they_are_used():
    program = """
import sys
from deeper_tasks import BackgroundTaskManager
BackgroundTaskManager("sqlite:///tasks.db")
assert not [name for name in sys.modules if name.startswith(("psycopg", "deeper_tasks.backends.postgres"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_psycopg_the_error_says_what_to_install():
    program = """
import sys
sys.modules["psycopg"] = None
from deeper_tasks import BackgroundTaskManager
from deeper_tasks.errors import ConfigError
try:
    BackgroundTaskManager("postgresql://me:hunter2@h/shop")
except ConfigError as error:
    print(error)
BackgroundTaskManager("sqlite:///tasks.db")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "'postgresql://me:***@h/shop' needs psycopg 3: install deeper_tasks with its extra 'postgres'" in done.stdout
