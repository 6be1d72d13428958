"""Configuration: the settings of a manager, and their sources."""

from deeper_tasks.config.loading import load_settings
from deeper_tasks.config.queues import parse_queues
from deeper_tasks.config.settings import Settings
from deeper_tasks.config.url import HIDDEN, redacted, right_file_urls, split_url, without_secret_pairs

__all__ = [
    "HIDDEN",
    "Settings",
    "load_settings",
    "parse_queues",
    "redacted",
    "right_file_urls",
    "split_url",
    "without_secret_pairs",
]
