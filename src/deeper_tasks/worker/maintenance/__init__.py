"""Maintenance: the periodic work of every worker that keeps the store in order."""
