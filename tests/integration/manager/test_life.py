"""The manager after a fork: parent and child go on, each on its own."""

import subprocess
import sys

FORK = """
import os, sys
from deeper_tasks import BackgroundTaskManager
manager = BackgroundTaskManager(sys.argv[1])
@manager.task(name="shop.double")
async def double(number: int): ...
first = manager.sync.enqueue_task(double, args=[0])
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ids = [manager.sync.enqueue_task(double, args=[number]) for _ in range(20)]
            assert all(manager.sync.get_task_status(each).args == [number] for each in ids)
            manager.sync.close()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
    manager.sync.enqueue_task(double, args=[9])
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
assert manager.sync.list_tasks(per_page=1).total_entries == 64
manager.sync.close()
"""


def test_a_manager_survives_a_fork(tmp_path):
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, f"sqlite:///{tmp_path}/tasks.db"], check=True, timeout=30
    )


FORK_WHILE_WRITING = """
import os, sys, threading
from deeper_tasks import BackgroundTaskManager
manager = BackgroundTaskManager(sys.argv[1])
@manager.task(name="shop.double")
async def double(number: int): ...
manager.sync.open()
is_over = threading.Event()
def write():
    while not is_over.is_set():
        manager.sync.enqueue_many([double.call(number) for number in range(50)])
threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            manager.sync.enqueue_task(double, args=[-1], tags=["child"])
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
is_over.set()
for thread in threads:
    thread.join()
assert manager.sync.list_tasks(tag="child").total_entries == 10
manager.sync.close()
"""


def test_a_child_forked_in_the_middle_of_writes_can_write(tmp_path):
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_WHILE_WRITING, f"sqlite:///{tmp_path}/tasks.db?timeout=5"],
        check=True,
        timeout=50,
    )
