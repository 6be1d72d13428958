"""Hooks: functions of the application that run at the start and at the end of a worker."""
