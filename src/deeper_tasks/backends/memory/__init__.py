"""The memory store: everything in one process, nothing kept. For tests and throw-away work."""

from deeper_tasks.backends.memory.backend import MemoryBackend

__all__ = ["MemoryBackend"]
