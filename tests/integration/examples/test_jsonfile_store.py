"""The example of a third party's store: it passes the suite, is found by its entry point, and serves real workers."""

import json
import os
import runpy
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deeper_tasks import BackgroundTaskManager
from deeper_tasks.backends.protocol import Backend, JobFilter, JobQuery, Retention
from deeper_tasks.domain.job import Insertion
from deeper_tasks.errors import BackendUnavailableError, ConfigError, DuplicateJobError, SchemaError
from deeper_tasks.manager.stores import make_backend
from deeper_tasks.testing.conformance.builders import DAY, NOW, SECOND, join, new_job, put, take

_EXAMPLE = Path(__file__).parents[3] / "examples" / "jsonfile-store"
_SOURCE = _EXAMPLE / "src"
sys.path.insert(0, str(_SOURCE))

_Suite = runpy.run_path(str(_EXAMPLE / "tests" / "test_conformance.py"))["TestJsonFileBackend"]

_APPLICATION = """
from deeper_tasks import BackgroundTaskManager

manager = BackgroundTaskManager("jsonfile:///jobs.json", poll_interval_seconds=0.05)


@manager.task
def add(one: int, other: int) -> int:
    return one + other
"""


class TestConformance(_Suite):
    @pytest.fixture
    def tmp_path(self):
        # The suite is not about the disk: in memory its thousands of writes take a fifth of the time.
        memory = Path("/dev/shm")
        with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
            yield Path(folder)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put the package's metadata on the path, as an installer writes it, and return where."""
    project = tomllib.loads((_EXAMPLE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "site" / "deeper_tasks_jsonfile-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(metadata.parent)
    return metadata.parent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.json"


@pytest.fixture
async def backend(installed, path):
    backend = make_backend(f"jsonfile:///{path}")
    await backend.open()
    yield backend
    await backend.close()


@contextmanager
def worker_process(folder, *paths):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-m", "deeper_tasks.cli", "worker", "application:manager"], cwd=folder, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(120)
async def test_a_worker_process_completes_what_another_process_enqueued(installed, tmp_path, path):
    (tmp_path / "application.py").write_text(_APPLICATION)
    async with BackgroundTaskManager(f"jsonfile:///{path}", poll_interval_seconds=0.05) as manager:
        add = manager.task(name="application.add")(lambda one, other: one + other)
        jobs = [await add.enqueue(number, 1) for number in range(20)]
        with worker_process(tmp_path, installed, _SOURCE) as process:
            results = [await manager.result(job, timeout=60) for job in jobs]
            process.terminate()
            assert process.wait(timeout=60) == 0
        assert results == [number + 1 for number in range(20)]
        assert await manager.backend.nodes() == []


def test_the_store_is_found_by_its_scheme(installed, path):
    backend: Backend = make_backend(f"jsonfile:///{path}")
    assert (backend.capabilities.is_durable, backend.capabilities.is_shared) == (True, True)
    assert not path.exists()


@pytest.mark.parametrize("url", ["jsonfile://", "jsonfile:///", "jsonfile://host/jobs.json", "jsonfile:///a.json?b=c"])
def test_a_url_that_names_no_file_is_refused_by_name(installed, url):
    with pytest.raises(ConfigError, match="jsonfile://"):
        make_backend(url)


async def test_who_only_looks_makes_no_file(installed, path):
    backend = make_backend(f"jsonfile:///{path}")
    with pytest.raises(BackendUnavailableError, match=r"jobs\.json"):
        await backend.open(create=False)
    await backend.close()
    assert list(path.parent.glob("jobs*")) == []


@pytest.mark.parametrize("content", ["", "[]", '{"shopping": "list"}', '{"version": 2}'])
async def test_a_file_that_is_not_ours_is_refused_and_left_alone(installed, path, content):
    path.write_text(content)
    backend = make_backend(f"jsonfile:///{path}")
    with pytest.raises(SchemaError, match=r"jobs\.json"):
        await backend.open()
    assert path.read_text() == content


async def test_a_call_that_fails_half_way_leaves_the_file_as_it_was(backend, path):
    job = new_job()
    await backend.insert([job])
    before = path.read_bytes()
    with pytest.raises(DuplicateJobError):
        await backend.insert([new_job(), new_job(request_id=job.request_id, arguments="[[1],{}]")])
    assert path.read_bytes() == before
    assert (await backend.find(JobQuery())).total == 1


async def test_a_file_half_written_by_a_process_that_was_killed_is_passed_over(backend, path):
    first = await put(backend)
    path.with_name("jobs.json-next").write_text('{"version": 1, "jo')
    second = await put(backend)
    assert [job.id for job in (await backend.find(JobQuery())).jobs] == [second, first]


async def test_a_call_that_changes_nothing_writes_nothing(backend, path):
    node = await join(backend)
    before = path.stat()
    assert await take(backend, node) == ()
    assert (await backend.promote()).count == 0
    assert os.path.samestat(before, path.stat())
    await put(backend)
    assert not os.path.samestat(before, path.stat())


async def test_the_file_keeps_its_permissions(backend, path):
    path.chmod(0o600)
    await put(backend)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name(f"{path.name}-lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have files of another user")
async def test_a_file_of_another_user_stays_that_users_when_root_writes(backend, path):
    os.chown(path, 64001, 64001)
    await put(backend)
    assert {each.stat().st_uid for each in (path, path.with_name(f"{path.name}-lock"))} == {64001}


async def test_without_its_file_the_store_is_unavailable_and_says_which_jobs_to_send_again(backend, path):
    path.unlink()
    job = new_job()
    with pytest.raises(BackendUnavailableError) as raised:
        await backend.insert([job])
    assert raised.value.request_ids == (job.request_id,)


@pytest.mark.timeout(120)
async def test_the_command_takes_the_numbers_that_the_store_gives_its_jobs(installed, backend, path):
    assert [await put(backend) for _ in range(3)] == ["1", "2", "3"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(_SOURCE)]), "COLUMNS": "80"}

    def deeper(*arguments):
        command = [sys.executable, "-m", "deeper_tasks.cli", *arguments, "--url", f"jsonfile:///{path}"]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert deeper("cancel", "3").stdout == "3 cancelled\n"
    assert "cancelled" in deeper("status", "3").stdout
    assert [line.split()[0] for line in deeper("list").stdout.splitlines()[1:4]] == ["3", "2", "1"]
    unknown = deeper("status", "03")
    assert (unknown.returncode, unknown.stderr.startswith("deeper: no job has the id '03'")) == (3, True)


async def test_a_request_is_known_for_a_day_and_its_number_is_never_used_again(backend, path):
    job = new_job()
    [first] = await backend.insert([job], now=NOW)
    kept = Retention(completed=None, failed=None)
    await backend.prune(kept, now=NOW + DAY - SECOND)
    assert await backend.insert([job], now=NOW + DAY) == [Insertion(id=first.id, is_new=False)]
    await backend.prune(kept, now=NOW + DAY)
    assert json.loads(path.read_text()).get("requests", {}) == {}
    await backend.delete(JobFilter(ids=(first.id,)))
    assert await backend.insert([job], now=NOW + DAY) == [Insertion(id="2", is_new=True)]
