"""Interruptions: exceptions that are raised in a thread from outside, wherever it is."""

import ctypes
import threading


def interrupt(prefix, kind):
    """Have an exception of this class raised in the threads whose names begin so, at their next step in Python."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]
    assert threads
    for thread in threads:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))
