"""The messages between a worker process and its supervisor, however the pipe cuts them."""

from deeper_tasks.supervisor.messages import Lines, Loaded, Report, encode

LOADED = Loaded(store="sqlite:///tasks.db", queues={"default": 2}, tasks=3, grace=30.0)
REPORT = Report(is_ready=True, is_stopping=False, busy=1, loop_lag=0.5)


def test_messages_come_out_whole_however_they_were_cut():
    data = encode(LOADED) + encode(REPORT)
    for cut in range(len(data)):
        lines = Lines()
        assert lines.take(data[:cut]) + lines.take(data[cut:]) == [LOADED, REPORT]


def test_a_line_that_is_no_message_is_logged_and_its_neighbours_arrive(caplog):
    lines = Lines()
    assert lines.take(encode(REPORT) + b"nonsense\n" + encode(LOADED)) == [REPORT, LOADED]
    assert "supervisor dropped an invalid line from a worker process: b'nonsense'" in caplog.text


def test_a_line_without_end_does_not_fill_the_memory():
    lines = Lines()
    for _ in range(100):
        assert lines.take(b"x" * 65_536) == []
    assert len(lines._rest) < 2_000_000
