"""The URL of the memory store: `memory://`. Each call makes a new, empty store."""

from __future__ import annotations

from deeper_tasks.backends.memory.backend import MemoryBackend
from deeper_tasks.backends.urls import StoreSettings, options_of, refuse_listen_url, refuse_unknown_options


def make_backend(url: str, settings: StoreSettings) -> MemoryBackend:
    """Return the store that a URL names."""
    refuse_listen_url(url, settings)
    refuse_unknown_options(url, options_of(url), known="none")
    return MemoryBackend()
