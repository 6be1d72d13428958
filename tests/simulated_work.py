"""Work of handlers that takes a known time: for tests of which that time is the subject. No test waits by it."""

import asyncio
import time


async def work_for(seconds):
    """Take this time as a handler does that awaits its work."""
    await asyncio.sleep(seconds)


def block_for(seconds):
    """Take this time, and the thread with it."""
    time.sleep(seconds)
