import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from servers.installation import installations
from servers.lifeline import Lifeline
from servers.postgres import PostgresServer
from servers.waiting import wait_for

_HOLDER = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from servers.installation import Installation
from servers.postgres import PostgresServer
server = PostgresServer(Installation.at(Path(sys.argv[2])))
print(server.url, server._lifeline.folder, flush=True)
sys.stdin.read()
"""


def tables(url):
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT relname FROM pg_class WHERE relname = 'kept'").fetchall()


def answers(url):
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database(database_url, turn):
    assert not tables(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE kept (id integer)")
    assert tables(database_url)


def test_a_database_is_gone_after_its_test_although_somebody_is_connected(postgres):
    with postgres.new_database() as url:
        straggler = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)
    with pytest.raises(psycopg.errors.AdminShutdown):
        straggler.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_a_restarted_server_keeps_its_url_and_its_data_and_loses_its_connections(start_postgres, mode):
    server = start_postgres()
    server.execute("CREATE TABLE kept (id integer)")
    server.execute("CHECKPOINT")
    connection = psycopg.connect(server.url)
    server.stop(mode)
    assert not answers(server.url)
    server.start()
    assert tables(server.url)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_a_closed_server_leaves_nothing_behind(start_postgres, mode):
    server = start_postgres()
    shared_memory = server._lock_file()[6].split()[1]
    server.stop(mode)
    server.close()
    assert not server._lifeline.folder.exists()
    assert (
        shared_memory not in subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not answers(server.url)


@pytest.mark.parametrize("installation", installations(), ids=lambda installation: installation.name)
def test_every_installation_of_the_machine_can_be_started(start_postgres, installation):
    server = start_postgres(installation, settings={"work_mem": "7MB"})
    [(version, memory)] = server.execute("SELECT current_setting('server_version'), current_setting('work_mem')")
    assert version.split(".")[0] == installation.name.split()[0]
    assert memory == "7MB"


def test_a_copy_of_the_installation_works_elsewhere(start_postgres):
    # It is what root's tests use when the environment lies in a folder that only root may enter.
    with closing(Lifeline(for_programs=True)) as lifeline:
        server = start_postgres(installations()[0].copy_to(lifeline.folder))
        assert server.execute("SELECT 1") == [(1,)]
        server.close()


def test_a_server_that_cannot_start_says_why(postgres_installation):
    with pytest.raises(RuntimeError, match="work_mem"):
        PostgresServer(postgres_installation, settings={"work_mem": "much"})


def test_a_killed_test_process_leaves_no_server_behind(postgres_installation):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, Path(__file__).parents[2], postgres_installation.bin],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        url, folder = holder.stdout.readline().split()
        assert answers(url)
        holder.kill()
    wait_for(lambda: not answers(url), "end of the server")
    wait_for(lambda: not Path(folder).exists(), "end of its folder")
