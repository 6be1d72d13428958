"""The process of a worker: its signals, its forks, and what may end it."""
