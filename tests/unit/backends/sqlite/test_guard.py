"""The guarded connection: it does all but end its transaction, for one thread at a time, until it is shut."""

import sqlite3
import threading
from contextlib import closing

import pytest

from deeper_tasks.backends.sqlite.connection_guard import GuardedConnection
from deeper_tasks.errors import TransactionError

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def connection(path):
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("CREATE TABLE ledger (entry TEXT UNIQUE)")
        plain.commit()
    connection = sqlite3.connect(path, factory=GuardedConnection, isolation_level=None, check_same_thread=False)
    connection.guard.begin()
    yield connection
    connection.guard.shut("the test is over")


def test_all_ways_to_read_and_write_are_as_ever(connection):
    assert connection.execute("INSERT INTO ledger VALUES (:entry)", {"entry": "a"}).rowcount == 1
    connection.executemany("INSERT INTO ledger VALUES (?)", [("b",), ("c",), ("d",)])
    cursor = connection.cursor()
    assert cursor.execute("SELECT entry FROM ledger ORDER BY 1") is cursor
    assert cursor.fetchone() == ("a",)
    assert cursor.fetchmany(1) == [("b",)]
    assert next(cursor) == ("c",)
    assert cursor.fetchall() == [("d",)]
    assert [entry for (entry,) in connection.execute("SELECT entry FROM ledger ORDER BY 1")] == ["a", "b", "c", "d"]
    cursor.arraysize = 2
    assert len(cursor.execute("SELECT 1 FROM ledger").fetchmany()) == 2
    assert connection.in_transaction


def test_an_error_of_a_statement_is_sqlites_own(connection):
    connection.execute("INSERT INTO ledger VALUES ('a')")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute("INSERT INTO ledger VALUES ('a')")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM nowhere")
    assert connection.in_transaction


@pytest.mark.parametrize("word", ["COMMIT", "END", "ROLLBACK", "BEGIN", "commit transaction", "/* now */ COMMIT"])
def test_no_word_that_ends_a_transaction_gets_through(connection, word):
    with pytest.raises(TransactionError, match="cannot end its job's transaction by"):
        connection.execute(word)
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        sqlite3.Cursor(connection).execute(word)
    assert connection.in_transaction


def test_the_methods_that_python_has_for_it_do_not_either(connection):
    for end in (sqlite3.Connection.commit, sqlite3.Connection.rollback):
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            end(connection)
    with pytest.raises(TransactionError, match="'with connection:'"), connection:
        pytest.fail("it was entered")
    assert connection.in_transaction


def test_after_a_refusal_another_error_is_told_as_what_it_is(connection):
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.Cursor(connection).execute("COMMIT")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM nowhere")


def test_what_sqlite_has_rolled_back_by_itself_is_not_gone_on_with(connection, query):
    connection.execute("INSERT INTO ledger VALUES ('a')")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT OR ROLLBACK INTO ledger VALUES ('a')")
    with pytest.raises(TransactionError, match="has rolled the job's transaction back"):
        connection.execute("INSERT INTO ledger VALUES ('b')")
    with pytest.raises(TransactionError, match="ended before its task returned"), connection.guard.alone():
        connection.guard.check_mark()
    assert query("SELECT * FROM ledger") == []


def test_a_search_in_another_thread_is_broken_off_when_it_is_shut(connection, query):
    connection.execute("INSERT INTO ledger VALUES ('a')")
    searching, errors = threading.Event(), []
    connection.create_function("tell", 0, searching.set)

    def search():
        try:
            connection.execute(f"SELECT tell(), ({ENDLESS})").fetchall()
        except sqlite3.Error as error:
            errors.append(str(error))

    thread = threading.Thread(target=search)
    thread.start()
    assert searching.wait(30)
    connection.guard.shut("enough")
    thread.join(30)
    assert errors == ["interrupted"]
    with pytest.raises(TransactionError, match="enough"):
        connection.execute("SELECT 1")
    assert query("SELECT * FROM ledger") == []


def test_it_can_be_shut_while_rows_are_left_and_a_cursor_goes_no_further(connection, path):
    connection.executemany("INSERT INTO ledger VALUES (?)", [(str(number),) for number in range(1000)])
    cursor = connection.execute("SELECT entry FROM ledger")
    assert cursor.fetchone() is not None
    connection.guard.shut("enough")
    for step in (cursor.fetchone, cursor.fetchall, cursor.fetchmany, cursor.__next__, connection.cursor):
        with pytest.raises(TransactionError, match="enough"):
            step()
    with closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("INSERT INTO ledger VALUES ('of another')")
        other.commit()


def test_the_first_reason_to_shut_it_counts(connection):
    connection.guard.shut("the first")
    connection.guard.shut("the second")
    with pytest.raises(TransactionError, match="the first"):
        connection.execute("SELECT 1")


def test_threads_that_use_it_at_once_take_turns(connection):
    def insert(name):
        for number in range(200):
            connection.execute("INSERT INTO ledger VALUES (?)", (f"{name}-{number}",))
            assert connection.execute("SELECT count(*) FROM ledger").fetchone()[0] > number

    threads = [threading.Thread(target=insert, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (800,)


def test_a_search_through_a_cursor_of_ones_own_making_is_broken_off_as_well(connection, path):
    connection.execute("INSERT INTO ledger VALUES ('a')")
    searching, errors = threading.Event(), []
    connection.create_function("tell", 0, searching.set)

    def search():
        try:
            sqlite3.Cursor(connection).execute(f"SELECT tell(), ({ENDLESS})").fetchall()
        except (sqlite3.Error, MemoryError) as error:
            # Which of them depends on what is left of the connection when Python asks it for its words.
            errors.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    assert searching.wait(30)
    connection.guard.shut("enough")
    thread.join(30)
    assert len(errors) == 1
    with closing(sqlite3.connect(path, timeout=0)) as other:
        other.execute("INSERT INTO ledger VALUES ('of another')")
        other.commit()


def test_an_interruption_while_rows_are_left_does_not_break_off_the_end(connection, query):
    connection.executemany("INSERT INTO ledger VALUES (?)", [(str(number),) for number in range(1000)])
    cursor = connection.execute("SELECT entry FROM ledger")
    cursor.fetchone()
    connection.interrupt()
    with connection.guard.alone():
        connection.guard.check_mark()
        sqlite3.Cursor(connection).execute("COMMIT")
    connection.guard.shut("it is over")
    assert query("SELECT count(*) FROM ledger") == [(1000,)]
