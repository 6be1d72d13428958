"""The frames: what a process receives, and that a worker that was killed reads as one that has closed."""

import socket

import pytest

from deeper_tasks.worker.execution.executors.frames import Kill, encode, receive


@pytest.fixture
def ends():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_a_frame_arrives_as_it_was_sent(ends):
    ours, theirs = ends
    theirs.sendall(encode(Kill(pid=42)))
    assert receive(ours) == (Kill(pid=42), [])


@pytest.mark.parametrize("sent", [b"", encode(Kill(pid=42))[:2], encode(Kill(pid=42))[:-1]])
def test_the_other_side_has_closed_whatever_it_had_begun_to_send(ends, sent):
    ours, theirs = ends
    theirs.sendall(sent)
    theirs.close()
    assert receive(ours) == (None, [])


@pytest.mark.parametrize("sent", [b"", encode(Kill(pid=42))[:-1]])
def test_the_other_side_was_killed_before_it_read_what_we_sent(ends, sent):
    ours, theirs = ends
    ours.sendall(b"never read")
    theirs.sendall(sent)
    theirs.close()
    assert receive(ours) == (None, [])
