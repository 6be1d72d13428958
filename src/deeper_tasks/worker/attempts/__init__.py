"""Attempts: one for each job that runs in this worker, and how its loop was blocked meanwhile."""
