"""What the SQLite store finds about its own file and its place."""

import os
import sqlite3

import pytest

from deeper_tasks.backends.memory import MemoryBackend
from deeper_tasks.backends.protocol import Diagnosable
from deeper_tasks.backends.sqlite import SQLiteBackend, companion_files, diagnosis
from deeper_tasks.backends.sqlite.database import Database
from deeper_tasks.backends.sqlite.diagnosis import examine, has_reset_bug
from deeper_tasks.backends.sqlite.mounts import Kind, Mount, find_mount
from deeper_tasks.domain.finding import Severity

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
server:/export /srv/shared nfs4 rw 0 0
/dev/sdb1 /srv/shared/local\\040disk xfs rw 0 0
bucket /mnt/bucket fuse.s3fs rw 0 0
C: /mnt/c 9p rw 0 0
//nas/files /mnt/nas cifs rw 0 0
"""


@pytest.fixture
async def database(tmp_path):
    backend = SQLiteBackend(tmp_path / "tasks.db")
    await backend.open()
    await backend.close()
    return Database(path=tmp_path / "tasks.db")


def look(database, **options):
    findings = examine(database, deep=options.pop("deep", False), is_stopped=lambda: False)
    return {finding.check: finding for finding in findings}


def test_only_a_store_with_a_place_of_its_own_examines_it(tmp_path):
    assert isinstance(SQLiteBackend(tmp_path / "tasks.db"), Diagnosable)
    assert not isinstance(MemoryBackend(), Diagnosable)


async def test_a_sound_file_is_told_to_be_so(database):
    found = look(database)
    for check in ("file", "journal", "unused space", "soundness"):
        assert found[check].severity is Severity.OK, found[check]
    assert "quick_check" in found["soundness"].message
    assert "integrity_check" in look(database, deep=True)["soundness"].message


async def test_it_can_be_asked_while_the_store_is_open_and_while_it_is_not(tmp_path):
    backend = SQLiteBackend(tmp_path / "tasks.db")
    closed = {finding.check: finding.severity for finding in await backend.diagnose()}
    assert closed["file"] is Severity.ERROR
    assert not (tmp_path / "tasks.db").exists()
    await backend.open()
    opened = {finding.check: finding.severity for finding in await backend.diagnose(deep=True)}
    await backend.close()
    assert opened["file"] is Severity.OK
    assert opened["soundness"] is Severity.OK


async def test_a_file_that_every_user_may_read_is_warned_of_with_those_beside_it(tmp_path):
    before = os.umask(0o022)
    try:
        backend = SQLiteBackend(tmp_path / "tasks.db")
        await backend.open()
        await backend.get("id")
        database, made = Database(path=tmp_path / "tasks.db"), sorted(tmp_path.glob("tasks.db*-*"))
        # As it is made, with the usual umask.
        assert "file access" not in look(database)
        wal = tmp_path / "tasks.db-wal"
        assert wal in made
        for open_to_all, told in ([database.path], "tasks.db (0644)"), ([wal], "tasks.db-wal (0644)"):
            for file in open_to_all:
                file.chmod(0o644)
            found = look(database)["file access"]
            assert (found.severity, told in found.message) == (Severity.WARNING, True)
            for file in open_to_all:
                file.chmod(0o640)
        await backend.close()
    finally:
        os.umask(before)
    assert "file access" not in look(database)


def test_a_folder_that_is_not_there_is_a_fault(tmp_path):
    assert look(Database(path=tmp_path / "absent" / "tasks.db"))["folder"].severity is Severity.ERROR


def test_what_is_no_file_is_a_fault(tmp_path):
    assert look(Database(path=tmp_path))["file"].severity is Severity.ERROR


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_what_this_user_may_not_write_is_a_fault(database):
    database.path.chmod(0o400)
    database.path.parent.chmod(0o500)
    found = look(database)
    database.path.parent.chmod(0o700)
    assert found["file"].severity is found["folder"].severity is Severity.ERROR


async def test_one_who_may_only_look_is_told_so_once_and_as_no_error(database, monkeypatch):
    def may(path, mode, **_):
        return not mode & os.W_OK

    monkeypatch.setattr(companion_files.os, "access", may)
    # Its owner is meant to write, and could give itself the right.
    assert look(database)["file"].severity is Severity.ERROR
    monkeypatch.setattr(companion_files.os, "geteuid", lambda: database.path.stat().st_uid + 1)
    found = examine(database, deep=False, is_stopped=lambda: False)
    [told] = [each for each in found if each.check in {"file", "folder"}]
    assert told.severity is Severity.WARNING
    assert told.message.startswith("this user may look, and not enqueue or work: the database ")
    assert [each.check for each in found if each.severity is Severity.ERROR] == []


async def test_what_the_system_refuses_is_a_fault(database, monkeypatch):
    monkeypatch.setattr(companion_files.os, "access", lambda *_, **__: False)
    found = look(database)
    assert "let its group in: chmod" in found["file"].remedy
    assert "let its group in: chmod g+rwx" in found["folder"].remedy


async def test_another_journal_is_a_warning(database):
    connection = sqlite3.connect(database.path)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    assert look(database)["journal"].severity is Severity.WARNING


async def test_much_unused_space_is_worth_compacting(database, monkeypatch):
    connection = sqlite3.connect(database.path)
    connection.execute("CREATE TABLE filler (content)")
    connection.execute("INSERT INTO filler VALUES (zeroblob(2000000))")
    connection.commit()
    connection.execute("DROP TABLE filler")
    connection.commit()
    connection.close()
    assert look(database)["unused space"].severity is Severity.OK
    monkeypatch.setattr(diagnosis, "_WORTH_COMPACTING", 1_000_000)
    assert "deeper cleanup --compact" in look(database)["unused space"].remedy


@pytest.mark.parametrize(
    ("free", "severity"), [(2**40, Severity.OK), (2**29, Severity.WARNING), (2**20, Severity.ERROR)]
)
async def test_a_disk_that_fills_up_is_told_in_time(database, monkeypatch, *, free, severity):
    class Usage:
        def __init__(self) -> None:
            self.free = free

    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda _: Usage())
    space = look(database)["space"]
    assert space.severity is severity
    # Compacting needs as much room as there are jobs.
    assert "--compact" not in str(space.remedy)


async def test_the_reading_of_a_large_file_can_be_ended(database):
    connection = sqlite3.connect(database.path)
    connection.execute("CREATE TABLE filler (content)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n"
    connection.execute(f"INSERT INTO filler {numbers}")
    connection.commit()
    connection.close()
    found = {finding.check: finding for finding in examine(database, deep=True, is_stopped=lambda: True)}
    assert "interrupted" in found["database"].message


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 54, 1), False),
    ],
)
def test_versions_with_the_reset_bug_are_known(version, has_it):
    assert has_reset_bug(version) is has_it


@pytest.mark.parametrize(
    ("version", "severity"),
    [((3, 54, 1), Severity.OK), ((3, 40, 1), Severity.WARNING), ((3, 30, 0), Severity.ERROR)],
)
async def test_the_library_is_judged_by_its_version(database, monkeypatch, *, version, severity):
    monkeypatch.setattr(diagnosis.sqlite3, "sqlite_version_info", version)
    assert look(Database(path=database.path.with_name("absent.db")))["sqlite"].severity is severity


@pytest.mark.parametrize(
    ("folder", "point", "kind"),
    [
        ("/var/lib/app", "/", Kind.LOCAL),
        ("/dev/shm", "/dev/shm", Kind.LOCAL),
        ("/srv/shared/app", "/srv/shared", Kind.NETWORK),
        ("/srv/shared/local disk/app", "/srv/shared/local disk", Kind.LOCAL),
        ("/srv/sharedness", "/", Kind.LOCAL),
        ("/mnt/bucket/x", "/mnt/bucket", Kind.NETWORK),
        ("/mnt/nas", "/mnt/nas", Kind.NETWORK),
        ("/mnt/c/Users", "/mnt/c", Kind.DOUBTFUL),
    ],
)
def test_a_folder_is_on_the_mount_nearest_above_it(tmp_path, monkeypatch, *, folder, point, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    found = find_mount(type(tmp_path)(folder), mounts=mounts)
    assert (found.point, found.kind) == (point, kind)


def test_where_the_system_tells_no_mounts_nothing_is_known(tmp_path):
    assert find_mount(tmp_path, mounts=tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("type_", "severity"), [("nfs", Severity.ERROR), ("9p", Severity.WARNING), ("ext4", Severity.OK)]
)
async def test_a_disk_far_away_is_told(database, monkeypatch, *, type_, severity):
    monkeypatch.setattr(diagnosis, "find_mount", lambda _: Mount(point="/", type=type_))
    assert look(database)["disk"].severity is severity
