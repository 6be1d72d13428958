"""The no-op store: tasks switched off. It accepts all that is valid, keeps nothing and runs nothing."""

from deeper_tasks.backends.noop.backend import NoopBackend

__all__ = ["NoopBackend"]
