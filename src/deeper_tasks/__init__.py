"""deeper_tasks: a background task manager."""

__version__ = "0.1.0"
