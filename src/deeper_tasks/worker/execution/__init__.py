"""Execution: runs the attempts of jobs, and decides how each ends."""
