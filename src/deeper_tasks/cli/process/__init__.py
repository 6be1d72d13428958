"""The processes that the command starts: their logs, signals and ends."""
