"""The processes of the command: their streams, logs, signals and shutdown."""
