"""What lies beside the file: it has the file's owner and mode, by whatever name the file is opened."""

import asyncio
import os
import stat
import subprocess
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

import pytest

from deeper_tasks.backends.protocol import JobQuery, Notification, Topic
from deeper_tasks.backends.sqlite import SQLiteBackend
from deeper_tasks.backends.sqlite.access import Access
from deeper_tasks.backends.sqlite.companion_files import companions, make
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.obstacles import obstacles
from deeper_tasks.backends.sqlite.write_lock import WriteLock
from deeper_tasks.errors import BackendUnavailableError
from deeper_tasks.testing.conformance.builders import new_job

APPLICATION = 64001
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have files of another user")


@contextmanager
def umask(mode):
    before = os.umask(mode)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def used(wait_until):
    """Return a use of a store, by all that makes files beside it; that returns what access to these there was."""
    return lambda path: use(path, wait_until)


async def use(path, wait_until):
    backend = SQLiteBackend(path, timeout=5)
    await backend.open()
    await backend.insert([new_job()])
    transaction = await backend.begin(is_async=True)
    await transaction.rollback()
    async with aclosing(backend.listen()) as hints:
        waiting = asyncio.ensure_future(anext(hints))
        folder = path.with_name(f"{path.name}-wake")
        await wait_until(lambda: folder.is_dir() and any(folder.iterdir()))
        found = {each.name: Access.of(each) for each in path.parent.iterdir()}
        sockets = [Access.of(each) for each in folder.iterdir()]
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    await backend.close()
    return found, sockets


@pytest.fixture
def short(tmp_path_factory):
    """A folder whose path is short enough for sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="d") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
async def test_locks_and_hints_have_the_mode_of_the_file_whatever_the_umask_is(short, used, mode):
    path = short / "tasks.db"
    path.touch()
    path.chmod(mode)
    with umask(0o077):
        found, sockets = await used(path)
    for suffix in ("", "-next", "-write", "-jobs-next", "-jobs-write", "-wal", "-shm"):
        assert found[f"tasks.db{suffix}"].mode == mode, suffix
    assert found["tasks.db-wake"].mode == mode | (mode & 0o444) >> 2
    assert [each.mode for each in sockets] == [mode]


@as_root
async def test_what_root_makes_beside_the_file_of_another_user_is_that_users(short, used):
    path = short / "tasks.db"
    path.touch()
    path.chmod(0o640)
    os.chown(path, APPLICATION, APPLICATION)
    found, sockets = await used(path)
    assert {(each.user, each.group) for each in [*found.values(), *sockets]} == {(APPLICATION, APPLICATION)}


@as_root
async def test_a_file_that_root_makes_belongs_to_the_owner_of_the_folder(short, used):
    folder = short / "store"
    folder.mkdir()
    os.chown(folder, APPLICATION, APPLICATION)
    with umask(0o022):
        found, _ = await used(folder / "tasks.db")
    assert found["tasks.db"] == Access(user=APPLICATION, group=APPLICATION, mode=0o640)
    assert {(each.user, each.group) for each in found.values()} == {(APPLICATION, APPLICATION)}


async def test_a_lock_file_of_another_mode_is_set_right_when_it_is_opened(path):
    path.touch()
    path.chmod(0o660)
    lock = path.with_name(f"{path.name}-next")
    lock.touch()
    lock.chmod(0o604)
    WriteLock(path, timeout=1).close()
    assert stat.S_IMODE(lock.stat().st_mode) == 0o660


@pytest.mark.parametrize("suffix", ["-next", "-wake"])
async def test_nothing_is_given_to_what_another_user_has_put_in_the_place(short, suffix):
    path, treasure = short / "tasks.db", short / "treasure"
    path.touch()
    path.chmod(0o666)
    if suffix == "-wake":
        treasure.mkdir()
        (treasure / "content").touch()
        treasure.chmod(0o700)
    else:
        treasure.touch()
        treasure.chmod(0o600)
    before = Access.of(treasure)
    path.with_name(f"{path.name}{suffix}").symlink_to(treasure)
    backend = SQLiteBackend(path)
    if suffix == "-next":
        with pytest.raises(BackendUnavailableError, match=r"cannot be written: .*tasks\.db-next"):
            await backend.open()
        path.with_name("tasks.db-next").unlink()
        path.with_name("tasks.db-next").hardlink_to(treasure)
    await backend.open()
    async with aclosing(backend.listen()) as hints:
        waiting = asyncio.ensure_future(anext(hints))
        await backend.insert([new_job()])
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    await backend.close()
    assert Access.of(treasure) == before


def test_where_there_are_no_links_a_file_is_made_all_the_same(path, monkeypatch):
    def no_link(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    wanted = Access(user=os.geteuid(), group=os.getegid(), mode=0o606)
    make(path, mode=0o666, access=wanted)
    assert Access.of(path) == wanted
    assert list(path.parent.iterdir()) == [path]


def names_of(path):
    """Other ways to name a file: a link, one to its folder, dots, doubled slashes."""
    folder = path.parent
    (folder.parent / "link.db").symlink_to(path)
    (folder.parent / "folder").symlink_to(folder)
    return [
        folder.parent / "link.db",
        folder.parent / "folder" / path.name,
        folder / ".." / folder.name / path.name,
        Path(f"{folder.parent}//./{folder.name}/{path.name}"),
    ]


async def test_every_name_of_a_file_has_the_same_locks_and_hints(short, wait_until):
    folder = short / "store"
    folder.mkdir()
    path = folder / "tasks.db"
    first = SQLiteBackend(path)
    await first.open()
    hint = Notification(topic=Topic.JOBS, subject="mail")
    async with aclosing(first.listen()) as hints:
        for name in names_of(path):
            other = SQLiteBackend(name, timeout=0.05)
            await other.open()
            heard = asyncio.ensure_future(anext(hints))
            await wait_until(path.with_name("tasks.db-wake").is_dir)
            await other.notify([hint])
            assert await asyncio.wait_for(heard, 10) == hint
            write_lock = WriteLock(path, timeout=1)
            with write_lock.turn(), pytest.raises(BackendUnavailableError, match="locked by another process"):
                await other.insert([new_job()])
            write_lock.close()
            await other.close()
    await first.close()
    assert sorted(each.name for each in short.iterdir()) == ["folder", "link.db", "store"]


async def test_a_link_to_a_file_that_is_not_there_yet_makes_it_where_it_leads(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(folder / "tasks.db")
    backend = SQLiteBackend(link)
    await backend.open()
    await backend.close()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("link")] == ["link.db"]
    assert stat.S_IMODE((folder / "tasks.db").stat().st_mode) & 0o007 == 0


async def test_a_link_that_is_led_to_another_file_is_followed(tmp_path):
    link = tmp_path / "link.db"
    backend = SQLiteBackend(link)
    link.symlink_to(tmp_path / "one.db")
    await backend.open()
    await backend.insert([new_job(), new_job()])
    other = SQLiteBackend(tmp_path / "two.db")
    await other.open()
    await other.close()
    link.unlink()
    link.symlink_to(tmp_path / "two.db")
    await backend.insert([new_job()])
    assert (await backend.find(JobQuery())).total == 1
    transaction = await backend.begin(is_async=True)
    assert (tmp_path / "two.db-jobs-write").exists()
    await transaction.rollback()
    await backend.close()


async def test_a_link_that_is_removed_leaves_its_store_open(tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "tasks.db")
    backend = SQLiteBackend(link)
    await backend.open()
    await backend.insert([new_job()])
    link.unlink()
    await backend.insert([new_job()])
    assert (await backend.find(JobQuery())).total == 2
    await backend.close()


def test_lock_files_that_were_removed_are_opened_anew(path):
    early = WriteLock(path, timeout=0.05)
    for name in ("next", "write"):
        path.with_name(f"{path.name}-{name}").unlink()
    late = WriteLock(path, timeout=0.05)
    with late.turn(), pytest.raises(BackendUnavailableError, match="locked by another process"):
        early.turn().__enter__()
    with early.turn(), pytest.raises(BackendUnavailableError, match="locked by another process"):
        late.turn().__enter__()
    early.close()
    late.close()


LOOK = """
import asyncio, os, sys
from deeper_tasks.backends.protocol import JobQuery
from deeper_tasks.backends.sqlite import SQLiteBackend, schema
from deeper_tasks.errors import DeeperTasksError
from deeper_tasks.testing.conformance.builders import new_job
schema.known_migrations()  # before the folder of the code may be out of reach
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

async def main():
    backend = SQLiteBackend(sys.argv[1], timeout=2)
    await backend.open(create=False)
    for _ in range(2):
        print((await backend.find(JobQuery())).total, flush=True)
        sys.stdin.readline()
    try:
        await backend.insert([new_job()])
    except DeeperTasksError as error:
        print(type(error).__name__, error)
    await backend.close()

asyncio.run(main())
"""


async def test_a_user_who_may_only_read_sees_what_others_write(short, program):
    path = short / "tasks.db"
    with umask(0o022):
        backend = SQLiteBackend(path)
        await backend.open()
        await backend.insert([new_job()])
        await backend.close()
        path.chmod(0o644)
    short.chmod(0o555 if os.geteuid() else 0o755)
    if os.geteuid():
        path.chmod(0o444)
    process = program(LOOK, path)
    assert process.stdout.readline() == "1\n"
    # A process that writes in between, and has gone: nothing but the file itself tells of it.
    short.chmod(0o755)
    path.chmod(0o644)
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.insert([new_job()])
    await backend.close()
    if os.geteuid():
        path.chmod(0o444)
        short.chmod(0o555)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "2\n"
    output, _ = process.communicate("\n", timeout=20)
    short.chmod(0o755)
    assert output.startswith(f"BackendUnavailableError the database {str(path)!r} (")
    assert " cannot be written by user " in output
    assert process.returncode == 0


async def test_what_keeps_a_user_out_is_told_with_the_command_that_lets_them_in(short, used, monkeypatch):
    path = short / "tasks.db"
    await used(path)
    lock = path.with_name(f"{path.name}-next")
    path.chmod(0o660)
    owner, group = path.stat().st_uid, path.stat().st_gid
    monkeypatch.setattr(os, "access", lambda each, *_, **__: each != lock)
    [found] = obstacles(path)
    assert found.message.startswith(repr(str(lock)))
    assert f"chown {owner}:{group} {lock} && chmod 0660 {lock}" in found.remedy


@contextmanager
def acting_as(user, group):
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@as_root
@pytest.mark.parametrize("has_setgid", [True, False])
@pytest.mark.parametrize("state", ["closed", "closed, another group", "no mate", "open", "open, another group"])
def test_the_remedy_as_it_is_printed_lets_a_user_into_all_files_at_once(short, state, has_setgid):
    folder, first, mate, group = short / "a store", APPLICATION, APPLICATION + 1, APPLICATION + 2
    folder.mkdir()
    path = folder / "tasks.db"
    for file in (path, *companions(path)):
        file.mkdir() if file.name.endswith("-wake") else file.touch()
        file.chmod(0o750 if file.is_dir() else 0o660 if file == path and state.startswith("open") else 0o640)
        os.chown(file, first, first if "another" in state and file.name.endswith("-wal") else group)
    hints = folder / "tasks.db-wake" / "1"
    hints.touch()
    for each in (hints, folder):
        os.chown(each, first, group)
    folder.chmod(0o2777 if has_setgid else 0o777)
    with acting_as(mate, mate if state == "no mate" else group):
        [obstacle] = obstacles(path)
    command = obstacle.remedy.rpartition(": ")[2]
    subprocess.run(command, shell=True, check=True, timeout=10)
    with acting_as(mate, mate if state == "no mate" else group):
        assert list(obstacles(path)) == []
        assert os.access(hints, os.W_OK, effective_ids=True) or state.startswith("open")
    assert ("chmod g+s" in command) == ("another" in state and not has_setgid)
    assert (str(path) in obstacle.message) == (not state.startswith("open")) or obstacle.message.count("tasks.db-") == 8


async def test_the_diagnosis_names_what_lies_beside_the_file_only_where_it_differs(path):
    with umask(0o022):
        backend = SQLiteBackend(path)
        await backend.open()
        assert "file access" not in {each.check for each in await backend.diagnose()}
    for suffix in ("-next", "-write"):
        path.with_name(f"{path.name}{suffix}").chmod(0o600)
    [found] = [each for each in await backend.diagnose() if each.check == "file access"]
    await asyncio.to_thread(subprocess.run, found.remedy, shell=True, check=True, timeout=10)
    assert "file access" not in {each.check for each in await backend.diagnose()}
    await backend.close()


async def test_the_diagnosis_warns_of_a_second_name_and_of_files_that_keep_users_out(path):
    backend = SQLiteBackend(path)
    await backend.open()
    path.with_name("other.db").hardlink_to(path)
    path.with_name(f"{path.name}-write").chmod(0o600)
    path.chmod(0o660)
    found = {each.check: each for each in await backend.diagnose()}
    await backend.close()
    assert "has 2 names (hard links)" in found["file names"].message
    assert f"{path.name}-write to user" in found["file access"].message
    assert found["file access"].remedy.endswith(f" {path}-write")


async def test_a_store_by_a_link_says_what_it_leads_to(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "tasks.db")
    backend = SQLiteBackend(tmp_path / "link.db")
    await backend.open()
    found = {each.check: each for each in await backend.diagnose()}
    await backend.close()
    assert f"{tmp_path}/tasks.db, by the link {tmp_path}/link.db" in found["file"].message
    assert Database(path=tmp_path / "link.db").real == tmp_path / "tasks.db"
