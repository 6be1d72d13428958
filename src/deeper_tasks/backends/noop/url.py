"""The URL of the no-op store: `noop://`."""

from __future__ import annotations

from deeper_tasks.backends.noop.backend import NoopBackend
from deeper_tasks.backends.urls import StoreSettings, options_of, refuse_unknown_options


def make_backend(url: str, settings: StoreSettings) -> NoopBackend:  # noqa: ARG001 - see below
    """
    Return the store that a URL names.

    All settings are accepted: an environment switches tasks off by its URL, and leaves the others as they are.
    """
    refuse_unknown_options(url, options_of(url), known="none")
    return NoopBackend()
