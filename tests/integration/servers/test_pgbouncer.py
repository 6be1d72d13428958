import psycopg
import pytest


@pytest.fixture
def pooled_url(start_pgbouncer, database_url):
    return start_pgbouncer(database_url).url


def test_a_statement_goes_through_pgbouncer_to_the_database_behind(pooled_url, database_url):
    with psycopg.connect(pooled_url) as pooled, psycopg.connect(database_url) as direct:
        assert pooled.execute("SELECT 1").fetchone() == (1,)
        asked = "SELECT current_database()"
        assert pooled.execute(asked).fetchone() == direct.execute(asked).fetchone()


def test_clients_share_a_connection_transaction_by_transaction(start_pgbouncer, database_url):
    url = start_pgbouncer(database_url, settings={"default_pool_size": "1"}).url
    asked = "SELECT pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as two:
        assert one.execute(asked).fetchone() == two.execute(asked).fetchone()


def test_a_startup_parameter_that_pgbouncer_does_not_know_is_refused(pooled_url):
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(pooled_url, options="-c search_path=elsewhere")


def test_a_pgbouncer_that_cannot_start_says_why(start_pgbouncer, database_url):
    with pytest.raises(RuntimeError, match="pool_mode"):
        start_pgbouncer(database_url, settings={"pool_mode": "whatever"})


def test_a_closed_pgbouncer_leaves_nothing_behind(start_pgbouncer, database_url):
    pooler = start_pgbouncer(database_url)
    pooler.close()
    assert not pooler._lifeline.folder.exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(pooler.url)
