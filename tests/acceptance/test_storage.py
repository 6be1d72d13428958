"""A disk that is full, a file or a folder that is read-only: a clear error, and nothing is lost or damaged."""

import json
import subprocess
from contextlib import contextmanager

import pytest
from workshop import tasks

from deeper_tasks import BackgroundTaskManager, State

DISK = 2_000_000
FILLER = 1_200_000


@contextmanager
def _small_disk(folder):
    """Mount a tiny file system, most of it taken by a file that can be removed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a file system cannot be mounted here; the limit on a file's size stands in for it")
    try:
        (folder / "filler").write_bytes(bytes(FILLER))
        yield folder / "filler"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_at_the_limit_of_a_files_size_enqueues_fail_clearly_and_work_again_once_it_is_lifted(crew):
    program = crew.start("workshop.storage", "space", "limit", is_piped=True)
    assert program.process.stdout.readline() == b"full\n"
    crew.check_database()
    seen = json.loads(program.process.communicate(b"go on\n", timeout=30)[0])
    assert program.process.returncode == 0
    await _check_acknowledged(crew, seen)
    assert len(set(seen["errors"])) == 1
    assert repr(str(crew.database)) in seen["errors"][0]


async def test_on_a_full_disk_enqueues_fail_clearly_and_all_works_again_once_there_is_space(crew, wait_until):
    with _small_disk(crew.database.parent) as filler:
        worker = crew.worker()
        await wait_until(lambda: worker.says("started"))
        program = crew.start("workshop.storage", "space", is_piped=True)
        assert program.process.stdout.readline() == b"full\n"
        filler.unlink()
        seen = json.loads(program.process.communicate(b"go on\n", timeout=30)[0])
        assert program.process.returncode == 0
        assert set(seen["errors"]) == {f"the disk is full: nothing was written to {str(crew.database)!r}"}
        async with BackgroundTaskManager(crew.url) as manager:
            for job in seen["acknowledged"]:
                await manager.result(job, timeout=30)
            assert (await manager.get_statistics()).queues["default"].completed == len(seen["acknowledged"])
        assert worker.stop() == 0
        crew.check_database()
        crew.end()


@pytest.mark.parametrize(
    ("file_mode", "folder_mode"),
    [(0o444, 0o755), (0o644, 0o555), (0o444, 0o555)],
    ids=["file", "folder", "file and folder"],
)
@pytest.mark.parametrize("is_used", [True, False], ids=["used before", "moved here"])
async def test_a_read_only_store_gives_a_clear_error_and_stays_as_it_was(crew, file_mode, folder_mode, is_used):
    folder = crew.database.parent
    async with BackgroundTaskManager(crew.url) as manager:
        job = await manager.enqueue_task(tasks.nap)
    for file in folder.iterdir():
        if file != crew.database and not is_used:
            file.unlink() if file.is_file() else file.rmdir()
        else:
            file.chmod(file_mode)
    content = crew.database.read_bytes()
    folder.chmod(folder_mode)
    try:
        program = crew.start("workshop.storage", "rights", is_piped=True)
        seen = json.loads(program.process.communicate(timeout=30)[0])
    finally:
        folder.chmod(0o755)
    assert program.process.returncode == 0
    assert len(seen["errors"]) == 2
    for error in seen["errors"]:
        assert repr(str(crew.database)) in error
        assert "cannot be written" in error
        assert "chown" in error or "chmod" in error
    assert crew.database.read_bytes() == content
    for file in folder.iterdir():
        file.chmod(0o755)
    crew.check_database()
    async with BackgroundTaskManager(crew.url) as manager:
        assert (await manager.get_task_status(job)).status is State.PENDING
        assert (await manager.enqueue_task(tasks.nap)).is_new


async def _check_acknowledged(crew, seen):
    async with BackgroundTaskManager(crew.url) as manager:
        assert len(seen["acknowledged"]) > seen["before"] > 1
        for job in seen["acknowledged"]:
            assert (await manager.get_task_status(job)).status is State.PENDING
        stored = (await manager.get_statistics()).queues["default"].pending
        assert stored == len(seen["acknowledged"])
    crew.check_database()
